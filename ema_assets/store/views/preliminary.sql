CASE WHEN NOT i.is_fetched THEN false
     WHEN f.timeframe IS NULL THEN NULL
     WHEN base.final_through IS NULL OR {ts} >= base.final_through THEN true
     WHEN {ts} + f.length <= base.final_through THEN false
     -- Bars of files are final. One that closed later than all final ones of its source may still change. Only of the
     -- newest ones it must be known when exactly they close.
     ELSE coalesce(base.final_through < (
         SELECT CASE WHEN f.period IS NOT NULL THEN (
                         -- A bar of a week, month or year ends with its last session.
                         SELECT max(d.regular_close) FROM market.session d
                         WHERE d.calendar = i.calendar AND d.session >= day.session AND d.session < day.session + 367
                           AND date_trunc(f.period, d.session + shift.days) = date_trunc(f.period, day.session + shift.days))
                     WHEN f.is_session THEN day.regular_close
                     ELSE least({ts} + f.length, day.close) END
         FROM (
             -- Where trading weeks begin on a Sunday, it belongs to the Monday behind it.
             SELECT CASE WHEN f.period = 'week' AND i.calendar IN ({begin_on_sunday}) THEN 1 ELSE 0 END AS days
         ) shift
         LEFT JOIN LATERAL (
             SELECT d.session, d.close, d.regular_close FROM market.session d
             WHERE d.calendar = i.calendar AND d.open <= {ts}
               AND d.session BETWEEN ({ts} - interval '3 days')::date AND ({ts} + interval '1 day')::date
             ORDER BY d.open DESC LIMIT 1
         ) day ON true
     ), true) END
