-- Bars a year: those of the last 365 days that are known of the calendar, or of as many as there are. Not counted
-- from today, so that the same history has the same figures tomorrow.
SELECT s.calendar, f.timeframe,
       coalesce(f.a_year, sum(CASE WHEN f.minutes >= 1440 THEN 1
                WHEN s.break_start IS NULL THEN ceil(extract(epoch FROM s.close - s.open) / 60 / f.minutes)
                -- The first bar after a break opens with the market.
                ELSE ceil(extract(epoch FROM s.break_start - s.open) / 60 / f.minutes)
                     + ceil(extract(epoch FROM s.close - s.break_end) / 60 / f.minutes) END)::float8
       * 365.25 / least(365, max(k.last) - max(k.first) + 1)) AS bars
FROM market.session s
JOIN (SELECT calendar, min(session) AS first, max(session) AS last FROM market.session GROUP BY 1) k USING (calendar)
CROSS JOIN (VALUES {timeframes}) AS f(timeframe, minutes, a_year)
WHERE s.session > k.last - 365
GROUP BY 1, 2, f.a_year
