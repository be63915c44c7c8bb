-- Alerts: what is to be told is written in the transaction of the data it is about (the outbox), and sent from there.

CREATE TABLE market.alert (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription text COLLATE "C" NOT NULL,
    kind         text COLLATE "C" NOT NULL,
    subject      text COLLATE "C" NOT NULL,
    occurrence   text COLLATE "C" NOT NULL,
    symbol       text COLLATE "C",
    timeframe    text COLLATE "C",
    strategy     text COLLATE "C",
    ts           timestamptz,
    text         text NOT NULL,
    is_over      boolean NOT NULL DEFAULT false,
    raised_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    routed_at    timestamptz,
    UNIQUE (subscription, kind, subject, occurrence)
);
COMMENT ON TABLE market.alert IS 'What somebody is to be told, once for each subscription. Written in the transaction of the data it is about.';
COMMENT ON COLUMN market.alert.subscription IS 'The name of the row [[alert]] of the watchlist.';
COMMENT ON COLUMN market.alert.subject IS 'What it is about: a series, with its strategy if any, a provider, a run.';
COMMENT ON COLUMN market.alert.occurrence IS 'What makes it the same alert when it is found again, such as the bar or the entry of the trade.';
COMMENT ON COLUMN market.alert.ts IS 'The bar it is about, UTC.';
COMMENT ON COLUMN market.alert.routed_at IS 'When it was handed to the channels of its subscription; null before that.';
CREATE INDEX alert_unrouted ON market.alert (id) WHERE routed_at IS NULL;
CREATE INDEX alert_age ON market.alert (raised_at);

CREATE TABLE market.alert_delivery (
    alert_id   bigint NOT NULL REFERENCES market.alert (id) ON DELETE CASCADE,
    channel    text COLLATE "C" NOT NULL,
    state      text COLLATE "C" NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'given up')),
    due_at     timestamptz NOT NULL,
    settled_at timestamptz,
    note       text,
    PRIMARY KEY (alert_id, channel)
);
COMMENT ON TABLE market.alert_delivery IS 'An alert on its way to one channel.';
COMMENT ON COLUMN market.alert_delivery.settled_at IS 'When it was sent or given up. Alerts of one message have the same.';
COMMENT ON COLUMN market.alert_delivery.note IS 'Why it was given up. Holds no secret.';
CREATE INDEX alert_delivery_waiting ON market.alert_delivery (channel, due_at) WHERE state = 'waiting';
CREATE INDEX alert_delivery_settled ON market.alert_delivery (channel, settled_at) WHERE state <> 'waiting';

CREATE TABLE market.alert_channel (
    channel         text COLLATE "C" PRIMARY KEY,
    failures        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    last_error      text,
    last_sent_at    timestamptz
);
COMMENT ON TABLE market.alert_channel IS 'Whether each channel takes messages: failures in a row, when it is tried again, why. Holds no secret.';

CREATE TABLE market.alert_trouble (
    subscription text COLLATE "C" NOT NULL,
    kind         text COLLATE "C" NOT NULL,
    subject      text COLLATE "C" NOT NULL,
    text         text NOT NULL,
    symbol       text COLLATE "C",
    timeframe    text COLLATE "C",
    since        timestamptz NOT NULL,
    PRIMARY KEY (subscription, kind, subject)
);
COMMENT ON TABLE market.alert_trouble IS 'Trouble that was told and is not over.';

CREATE FUNCTION market.notify_of_alerts() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM pg_notify('ema_assets_alerts', '');
    RETURN NULL;
END $$;
CREATE TRIGGER notify AFTER INSERT ON market.alert FOR EACH STATEMENT EXECUTE FUNCTION market.notify_of_alerts();
