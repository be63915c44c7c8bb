-- Corporate actions as facts, and the words for what they do to stored bars.

CREATE TABLE market.corporate_action (
    symbol       text COLLATE "C" NOT NULL,
    kind         text COLLATE "C" NOT NULL
                 CHECK (kind IN ('split', 'spin-off', 'dividend', 'currency change', 'rename', 'delisting')),
    effective_at timestamptz NOT NULL,
    ratio        float8 CHECK (ratio > 0),
    amount       float8 CHECK (amount > 0),
    value        text,
    source       text COLLATE "C" NOT NULL,
    known_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (symbol, kind, effective_at, source),
    CHECK ((ratio IS NOT NULL) = (kind IN ('split', 'spin-off', 'currency change'))),
    CHECK ((amount IS NOT NULL) = (kind = 'dividend'))
);
COMMENT ON TABLE market.corporate_action IS 'What happened to an instrument, by source. Dividends are recorded and never applied to stored bars.';
COMMENT ON COLUMN market.corporate_action.effective_at IS 'The first moment at which it trades in the new way, such as the open of the ex-date.';
COMMENT ON COLUMN market.corporate_action.ratio IS 'Old price over new: 7 for a split of 7:1, 0.1 for a reverse split of 1:10, 1.253 for a spin-off, 100 for pence to pounds.';
COMMENT ON COLUMN market.corporate_action.amount IS 'Of a dividend, per share, in the currency and on the share count of its day.';
COMMENT ON COLUMN market.corporate_action.value IS 'The new symbol or currency.';

ALTER TABLE market.bar_revision DROP CONSTRAINT bar_revision_kind_check;
ALTER TABLE market.bar_revision ADD CONSTRAINT bar_revision_kind_check CHECK (
    kind IN ('correction', 'late bars', 'split', 'spin-off', 'currency change', 'rescaled', 'level shift'));
COMMENT ON COLUMN market.bar_revision.kind IS 'rescaled: the vendor serves all history by another factor; level shift: it serves both levels, and the older bars were brought to the new one.';
