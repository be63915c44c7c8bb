-- Roles for the processes that need fewer rights than the owner: see store/roles.py.

DO $$
DECLARE
    made text;
BEGIN
    FOREACH made IN ARRAY ARRAY['ema_reader', 'ema_metrics', 'ema_alerts'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = made) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', made);
        END IF;
    END LOOP;
    IF NOT pg_has_role('ema_metrics', 'ema_reader', 'MEMBER') THEN
        GRANT ema_reader TO ema_metrics;
    END IF;
    IF NOT pg_has_role('ema_alerts', 'ema_metrics', 'MEMBER') THEN
        GRANT ema_metrics TO ema_alerts;
    END IF;
EXCEPTION
    -- On a server where we may not make roles, or where another database of it is migrated at the same moment.
    WHEN insufficient_privilege OR duplicate_object OR unique_violation OR undefined_object THEN
        RAISE NOTICE 'the roles of ema-assets were not made';
END $$;
