-- Since when each `[[alert]]` wants each kind of trouble: what had happened before is not reported to it.

CREATE TABLE market.alert_wanted (
    subscription text COLLATE "C" NOT NULL,
    kind         text COLLATE "C" NOT NULL,
    since        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (subscription, kind)
);
COMMENT ON TABLE market.alert_wanted IS 'Since when subscriptions want to be told of kinds of trouble.';
