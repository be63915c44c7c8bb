-- What providers say of their symbols beside bars: whether they trade, and more kinds of corporate actions. And who
-- brought the former values of a corrected bar.

ALTER TABLE market.instrument
    ADD COLUMN described_at    timestamptz,
    ADD COLUMN actions_through timestamptz,
    ADD COLUMN state           text COLLATE "C"
               CHECK (state IN ('active', 'halted', 'renamed', 'delisted', 'unknown')),
    ADD COLUMN state_since     timestamptz,
    ADD COLUMN state_detail    text,
    ADD COLUMN state_source    text COLLATE "C",
    ADD COLUMN state_noted_at  timestamptz;
COMMENT ON COLUMN market.instrument.described_at IS 'The market''s time at which its provider was last asked what became of it. Reset with the provider, as the columns below.';
COMMENT ON COLUMN market.instrument.actions_through IS 'The market''s time at which its provider last told of its corporate actions.';
COMMENT ON COLUMN market.instrument.state IS 'What its provider says of it. unknown: the provider''s list lacks it. Null when nobody was asked or could say.';
COMMENT ON COLUMN market.instrument.state_since IS 'When that began, where it is known.';
COMMENT ON COLUMN market.instrument.state_detail IS 'The new symbol of a renamed one, else the provider''s own words.';
COMMENT ON COLUMN market.instrument.state_noted_at IS 'The market''s time at which the state was first seen to be so.';

ALTER TABLE market.provider_state ADD COLUMN describe_error text;
COMMENT ON COLUMN market.provider_state.describe_error IS 'Why it did not say what became of its symbols when it was last asked; null when it did.';

ALTER TABLE market.corporate_action DROP CONSTRAINT corporate_action_kind_check;
ALTER TABLE market.corporate_action ADD CONSTRAINT corporate_action_kind_check CHECK (
    kind IN ('split', 'spin-off', 'dividend', 'currency change', 'rename', 'delisting', 'stock dividend', 'unit split',
             'merger', 'redemption', 'rights distribution'));
ALTER TABLE market.corporate_action DROP CONSTRAINT corporate_action_check;
ALTER TABLE market.corporate_action ADD CONSTRAINT corporate_action_check CHECK (
    CASE WHEN kind IN ('split', 'currency change') THEN ratio IS NOT NULL ELSE ratio IS NULL OR kind = 'spin-off' END);
COMMENT ON COLUMN market.corporate_action.ratio IS 'Old price over new: 7 for a split of 7:1, 0.1 for a reverse split of 1:10, 1.253 for a spin-off, 100 for pence to pounds. Null for a spin-off of which only the shares are known.';
COMMENT ON COLUMN market.corporate_action.value IS 'The new symbol or currency, the symbol that was spun off, who took it over, or the new shares per share.';

ALTER TABLE market.bar_correction ADD COLUMN source_id smallint;
COMMENT ON COLUMN market.bar_correction.source_id IS 'Who had brought these values; null when that was not noted.';
