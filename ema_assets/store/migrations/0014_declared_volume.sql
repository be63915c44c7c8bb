-- How the fifth migration noted a column is not how declarations write it: where bars were older than that file, their
-- table was taken for one of another declaration, and nothing was refreshed any more.

UPDATE ema_assets.declaration SET sql = 'volume float8'
WHERE table_name = 'ohlc' AND part = 'volume' AND sql = '"volume" float8';
