"""Tests of files of vendors: the values of every layout are read exactly, with times in UTC."""

from pathlib import Path

import pytest

from ema_assets.files.declaration import BY_NAME, Layout
from ema_assets.files.discovery import discover
from ema_assets_tests.conftest import mostly_broad
from ema_assets_tests.files.reader import Row, question, read_text, refusal, rows, understood, written

# By case: the name of the file, its text, and the bars as they are stored.
VENDORS: dict[str, tuple[str, str, list[Row]]] = {
    "Yahoo's web download": (
        "BP.L.csv",
        (
            "Date,Open,High,Low,Close,Adj Close,Volume\n"
            "2024-01-02,470.5,476.25,468.1,474.35,452.1,28401912\n2024-01-03,474,475.5,null,null,null,null\n"
            "2024-01-04,476.6,480.9,475.0,479.15,456.8,25120044\n"
        ),
        [
            ("BP.L", "1d", "2024-01-02 08:00", 470.5, 476.25, 468.1, 474.35, 28401912.0),
            ("BP.L", "1d", "2024-01-03 08:00", 474.0, 475.5, None, None, None),
            ("BP.L", "1d", "2024-01-04 08:00", 476.6, 480.9, 475.0, 479.15, 25120044.0),
        ],
    ),
    "yfinance's history": (
        "7203.T_1d.csv",
        (
            "Date,Open,High,Low,Close,Volume,Dividends,Stock Splits\n"
            "2024-01-04 00:00:00+09:00,2560.0,2627.5,2559.0,2620.5,29520500,0.0,0.0\n"
            "2024-01-05 00:00:00+09:00,2660.0,2709.5,2657.0,2694.5,32031600,0.0,0.0\n"
        ),
        [
            ("7203.T", "1d", "2024-01-04 00:00", 2560.0, 2627.5, 2559.0, 2620.5, 29520500.0),
            ("7203.T", "1d", "2024-01-05 00:00", 2660.0, 2709.5, 2657.0, 2694.5, 32031600.0),
        ],
    ),
    "yfinance's download of one ticker": (
        "whatever.csv",
        (
            "Price,Close,High,Low,Open,Volume\nTicker,IBM,IBM,IBM,IBM,IBM\nDatetime,,,,,\n"
            "2024-07-01 13:30:00+00:00,173.5,174.1,173.2,173.4,101234\n"
            "2024-07-01 13:35:00+00:00,173.9,174.0,173.4,173.5,54321\n"
            "2024-07-01 13:40:00+00:00,173.6,173.9,173.5,173.9,44321\n"
        ),
        [
            ("IBM", "5m", "2024-07-01 13:30", 173.4, 174.1, 173.2, 173.5, 101234.0),
            ("IBM", "5m", "2024-07-01 13:35", 173.5, 174.0, 173.4, 173.9, 54321.0),
            ("IBM", "5m", "2024-07-01 13:40", 173.9, 173.9, 173.5, 173.6, 44321.0),
        ],
    ),
    "yfinance's download of several tickers": (
        "download.csv",
        (
            "Ticker,IBM,IBM,IBM,IBM,IBM,SAP.DE,SAP.DE,SAP.DE,SAP.DE,SAP.DE\n"
            "Price,Open,High,Low,Close,Volume,Open,High,Low,Close,Volume\nDate,,,,,,,,,,\n"
            "2024-05-30,165.6,166.7,164.2,165.6,3852963,171.0,171.5,168.4,169.9,2104321\n"
            "2024-05-31,,,,,,168.5,168.6,164.5,165.9,4210987\n"
        ),
        [
            ("IBM", "1d", "2024-05-30 13:30", 165.6, 166.7, 164.2, 165.6, 3852963.0),
            ("SAP.DE", "1d", "2024-05-30 07:00", 171.0, 171.5, 168.4, 169.9, 2104321.0),
            ("SAP.DE", "1d", "2024-05-31 07:00", 168.5, 168.6, 164.5, 165.9, 4210987.0),
        ],
    ),
    "an older yfinance's download of several tickers": (
        "download.csv",
        (
            ",Adj Close,Adj Close,Close,Close,High,High,Low,Low,Open,Open,Volume,Volume\n"
            ",IBM,SAP.DE,IBM,SAP.DE,IBM,SAP.DE,IBM,SAP.DE,IBM,SAP.DE,IBM,SAP.DE\nDate,,,,,,,,,,,,\n"
            "2022-05-30,,91.2,,92.9,,93.5,,92.1,,93.1,,2104321\n"
            "2022-05-31,130.1,91.1,138.8,92.8,139.3,93.6,136.6,92.0,137.5,93.2,5852963,4210987\n"
        ),
        [
            ("IBM", "1d", "2022-05-31 13:30", 137.5, 139.3, 136.6, 138.8, 5852963.0),
            ("SAP.DE", "1d", "2022-05-30 07:00", 93.1, 93.5, 92.1, 92.9, 2104321.0),
            ("SAP.DE", "1d", "2022-05-31 07:00", 93.2, 93.6, 92.0, 92.8, 4210987.0),
        ],
    ),
    "an older yfinance's download by ticker": (
        "download.csv",
        (
            ",IBM,IBM,IBM,IBM,IBM,IBM\n,Open,High,Low,Close,Adj Close,Volume\nDate,,,,,,\n"
            "2022-05-31,137.5,139.3,136.6,138.8,130.1,5852963\n"
        ),
        [("IBM", "1d", "2022-05-31 13:30", 137.5, 139.3, 136.6, 138.8, 5852963.0)],
    ),
    "yfinance's download with two rows of names": (
        "KO.csv",
        "Price,Adj Close,Close,High,Low,Open,Volume\nDate,,,,,,\n2024-03-11,58.9,60.1,60.4,59.3,59.4,16120000\n",
        [("KO", "1d", "2024-03-11 13:30", 59.4, 60.4, 59.3, 60.1, 16120000.0)],
    ),
    "Stooq's days": (
        "ko.us.txt",
        (
            "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
            "KO.US,D,20240311,000000,59.4,60.4,59.3,60.1,16120345.25,0\n"
        ),
        [("KO", "1d", "2024-03-11 13:30", 59.4, 60.4, 59.3, 60.1, 16120345.25)],
    ),
    "Stooq's web download": (
        "vod.uk.csv",
        "Date,Open,High,Low,Close,Volume\n2024-03-11,68.1,68.9,67.8,68.5,61230000\n",
        [("VOD.UK", "1d", "2024-03-11 08:00", 68.1, 68.9, 67.8, 68.5, 61230000.0)],
    ),
    "Binance's dump in milliseconds": (
        "ETHUSDT-1h-2024-02.csv",
        (
            "1706745600000,2283.14,2290.0,2262.5,2265.01,12345.678,1706749199999,2.8e7,40123,6000.1,1.3e7,0\n"
            "1706749200000,2265.01,2272.7,2240.0,2251.9,23456.789,1706752799999,5.2e7,60321,9000.2,2.0e7,0\n"
        ),
        [
            ("ETHUSDT", "1h", "2024-02-01 00:00", 2283.14, 2290.0, 2262.5, 2265.01, 12345.678),
            ("ETHUSDT", "1h", "2024-02-01 01:00", 2265.01, 2272.7, 2240.0, 2251.9, 23456.789),
        ],
    ),
    "Binance's dump in microseconds": (
        "ETHUSDT-5m-2025-02-01.csv",
        "1738368000000000,3300.1,3310.2,3295.0,3305.5,1200.5,1738368299999999,3.9e6,5012,600.1,1.9e6,0\n",
        [("ETHUSDT", "5m", "2025-02-01 00:00", 3300.1, 3310.2, 3295.0, 3305.5, 1200.5)],
    ),
    "Binance's dump with a head": (
        "ETHUSDT-5m-2025-02-02.csv",
        (
            "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,"
            "ignore\n1738454400000000,3301.1,3311.2,3296.0,3306.5,1201.5,1738454699999999,3.9e6,5012,600.1,1.9e6,0\n"
        ),
        [("ETHUSDT", "5m", "2025-02-02 00:00", 3301.1, 3311.2, 3296.0, 3306.5, 1201.5)],
    ),
    "TradingView with epochs": (
        "NYSE_KO, 5.csv",
        (
            "time,open,high,low,close,VWAP,Upper Band #1,Volume\n1710163800,59.4,59.6,59.3,59.5,59.45,60.1,120345\n"
            "1710164100,59.5,59.55,59.41,59.44,59.46,60.2,98000\n"
        ),
        [
            ("KO", "5m", "2024-03-11 13:30", 59.4, 59.6, 59.3, 59.5, 120345.0),
            ("KO", "5m", "2024-03-11 13:35", 59.5, 59.55, 59.41, 59.44, 98000.0),
        ],
    ),
    "TradingView with ISO times": (
        "NYSE_KO, 60_3f2a1.csv",
        "time,open,high,low,close,EMA\n2024-03-11T09:30:00-04:00,59.4,59.6,59.3,59.5,59.45\n",
        [("KO", "1h", "2024-03-11 13:30", 59.4, 59.6, 59.3, 59.5, None)],
    ),
    "MetaTrader 4's days": (
        "EURUSD1440.csv",
        "2024.03.11,00:00,1.09401,1.09480,1.09150,1.09262,51234\n2024.03.12,00:00,1.09260,1.09430,1.09020,1.09280,61234\n",
        [
            ("EURUSD", "1d", "2024-03-10 21:00", 1.09401, 1.0948, 1.0915, 1.09262, 51234.0),
            ("EURUSD", "1d", "2024-03-11 21:00", 1.0926, 1.0943, 1.0902, 1.0928, 61234.0),
        ],
    ),
    "HistData": (
        "DAT_ASCII_EURUSD_M5_202407.csv",
        "20240708 093000;1.083120;1.083450;1.083010;1.083220;0\n20240708 093500;1.083220;1.083300;1.082900;1.082950;0\n",
        [
            ("EURUSD", "5m", "2024-07-08 14:30", 1.08312, 1.08345, 1.08301, 1.08322, 0.0),
            ("EURUSD", "5m", "2024-07-08 14:35", 1.08322, 1.0833, 1.0829, 1.08295, 0.0),
        ],
    ),
    "NSE's index history": (
        "NIFTY50.csv",
        (
            "Date ,Open ,High ,Low ,Close ,Shares Traded ,Turnover (₹ Cr)\n"
            '02-APR-2025,23192.6,23350.0,23158.45,23332.35,"23,45,67,890",21000.5\n'
            "01-APR-2025,23341.1,23565.15,23136.4,23165.7,435262340,41183.33\n"
        ),
        [
            ("NIFTY50", "1d", "2025-04-02 03:45", 23192.6, 23350.0, 23158.45, 23332.35, 234567890.0),
            ("NIFTY50", "1d", "2025-04-01 03:45", 23341.1, 23565.15, 23136.4, 23165.7, 435262340.0),
        ],
    ),
    "NSE's bhavcopy": (
        "cm01APR2024bhav.csv",
        (
            "SYMBOL,SERIES,OPEN,HIGH,LOW,CLOSE,LAST,PREVCLOSE,TOTTRDQTY,TOTTRDVAL,TIMESTAMP,TOTALTRADES,ISIN,\n"
            "INFY,EQ,1505.0,1514.9,1491.1,1507.7,1508,1498.05,4567890,6.8e9,01-APR-2024,180234,INE009A01021,\n"
            "INFY,BL,1500.0,1500.0,1500.0,1500.0,1500,1498.05,100000,1.5e8,01-APR-2024,1,INE009A01021,\n"
            "TCS,EQ,3899.95,3949.0,3880.05,3923.0,3921,3876.3,1234567,4.8e9,01-APR-2024,90234,INE467B01029,\n"
        ),
        [
            ("INFY", "1d", "2024-04-01 03:45", 1505.0, 1514.9, 1491.1, 1507.7, 4567890.0),
            ("TCS", "1d", "2024-04-01 03:45", 3899.95, 3949.0, 3880.05, 3923.0, 1234567.0),
        ],
    ),
    "NSE's history of a security": (
        "Quote-Equity-TCS-EQ-01-04-2025-to-02-04-2025.csv",
        (
            '"Date ","series ","OPEN ","HIGH ","LOW ","PREV. CLOSE ","ltp ","close ","vwap ","52W H","52W L","VOLUME ",'
            '"VALUE ","No of trades "\n"02-Apr-2025","EQ","3,545.00","3,588.00","3,520.10","3,550.00","3,575.00",'
            '"3,571.45","3,560.2","4,592.25","3,440.00","12,34,567","4,39,51,22,345.60","76,543"\n'
        ),
        [("TCS", "1d", "2025-04-02 03:45", 3545.0, 3588.0, 3520.1, 3571.45, 1234567.0)],
    ),
    "BSE's history of a security": (
        "TCS.csv",
        (
            "Date,Open Price,High Price,Low Price,Close Price,WAP,No.of Shares,No. of Trades,Total Turnover (Rs.),\n"
            "2-April-2025,3544.10,3587.50,3521.00,3570.20,3559.84,98765,5432,351590000.00,\n"
        ),
        [("TCS", "1d", "2025-04-02 03:45", 3544.1, 3587.5, 3521.0, 3570.2, 98765.0)],
    ),
    "Coinbase's JSON": (
        "BTC-USD_1h.json",
        "[[1706749200,42100.5,42600,42550.25,42310.75,301.5],[1706745600,42400,42700.9,42580.1,42550.25,412.125]]",
        [
            ("BTC-USD", "1h", "2024-02-01 01:00", 42550.25, 42600.0, 42100.5, 42310.75, 301.5),
            ("BTC-USD", "1h", "2024-02-01 00:00", 42580.1, 42700.9, 42400.0, 42550.25, 412.125),
        ],
    ),
    "Coinbase's CSV": (
        "coinbase_BTC-USD_300.csv",
        (
            "time,low,high,open,close,volume\n1706745900,42500,42560.5,42555.5,42510,3.25\n"
            "1706745600,42540,42700.9,42580.1,42555.5,41.125\n"
        ),
        [
            ("BTC-USD", "5m", "2024-02-01 00:05", 42555.5, 42560.5, 42500.0, 42510.0, 3.25),
            ("BTC-USD", "5m", "2024-02-01 00:00", 42580.1, 42700.9, 42540.0, 42555.5, 41.125),
        ],
    ),
    "Kraken's dump": (
        "XBTUSD_60.csv",
        "1706745600,42580.1,42700.9,42400.0,42550.2,412.12500000,5012\n",
        [("XBTUSD", "1h", "2024-02-01 00:00", 42580.1, 42700.9, 42400.0, 42550.2, 412.125)],
    ),
    "Google's sheet": (
        "KO.csv",
        (
            "Date,Open,High,Low,Close,Volume\n3/11/2024 16:00:00,59.4,60.4,59.3,60.1,16120345\n"
            "3/13/2024 16:00:00,60.2,60.6,59.9,60.5,13120345\n"
        ),
        [
            ("KO", "1d", "2024-03-11 13:30", 59.4, 60.4, 59.3, 60.1, 16120345.0),
            ("KO", "1d", "2024-03-13 13:30", 60.2, 60.6, 59.9, 60.5, 13120345.0),
        ],
    ),
    "Nasdaq.com": (
        "KO_HistoricalData_1710200000000.csv",
        (
            "Date,Close/Last,Volume,Open,High,Low\n03/12/2024,$60.50,13120345,$60.20,$60.60,$59.90\n"
            "03/11/2024,$60.10,16120345,$59.40,$60.40,$59.30\n"
        ),
        [
            ("KO", "1d", "2024-03-12 13:30", 60.2, 60.6, 59.9, 60.5, 13120345.0),
            ("KO", "1d", "2024-03-11 13:30", 59.4, 60.4, 59.3, 60.1, 16120345.0),
        ],
    ),
    "Alpha Vantage's JSON": (
        "query.json",
        (
            '{"Meta Data": {"1. Information": "Daily Prices", "2. Symbol": "IBM"}, "Time Series (Daily)": {'
            '"2024-03-12": {"1. open": "192.46", "2. high": "198.79", "3. low": "192.14", "4. close": "197.78", '
            '"5. volume": "5808912"}, "2024-03-11": {"1. open": "195.09", "2. high": "195.38", "3. low": "190.88", '
            '"4. close": "191.73", "5. volume": "3945074"}}}'
        ),
        [
            ("IBM", "1d", "2024-03-12 13:30", 192.46, 198.79, 192.14, 197.78, 5808912.0),
            ("IBM", "1d", "2024-03-11 13:30", 195.09, 195.38, 190.88, 191.73, 3945074.0),
        ],
    ),
    "Alpha Vantage's adjusted CSV": (
        "daily_adjusted_IBM.csv",
        (
            "timestamp,open,high,low,close,adjusted_close,volume,dividend_amount,split_coefficient\n"
            "2024-03-12,192.46,198.79,192.14,197.78,190.1,5808912,0.0000,1.0\n"
        ),
        [("IBM", "1d", "2024-03-12 13:30", 192.46, 198.79, 192.14, 197.78, 5808912.0)],
    ),
    "Investing.com": (
        "KO Historical Data.csv",
        (
            '\ufeff"Date","Price","Open","High","Low","Vol.","Change %"\n"03/13/2024","60.50","60.20","60.60","59.90",'
            '"13.12M","0.67%"\n"03/12/2024","60.10","59.40","60.40","59.30","816.5K","-0.2%"\n'
        ),
        [
            ("KO", "1d", "2024-03-13 13:30", 60.2, 60.6, 59.9, 60.5, 13120000.0),
            ("KO", "1d", "2024-03-12 13:30", 59.4, 60.4, 59.3, 60.1, 816500.0),
        ],
    ),
    "FRED": (
        "SP500.csv",
        "observation_date,SPX\n2024-01-12,4783.83\n2024-01-15,.\n2024-01-16,4765.98\n",
        [
            ("SPX", "1d", "2024-01-12 14:30", 4783.83, 4783.83, 4783.83, 4783.83, None),
            ("SPX", "1d", "2024-01-16 14:30", 4765.98, 4765.98, 4765.98, 4765.98, None),
        ],
    ),
    "FRED's older files": (
        "SPX.csv",
        "DATE,VALUE\n2024-01-12,4783.83\n",
        [("SPX", "1d", "2024-01-12 14:30", 4783.83, 4783.83, 4783.83, 4783.83, None)],
    ),
    "Polygon's JSON": (
        "aggs.json",
        (
            '{"ticker":"KO","queryCount":2,"results":[{"v":120345,"vw":59.45,"o":59.4,"c":59.5,"h":59.6,"l":59.3,'
            '"t":1710163800000,"n":900},{"v":98000,"vw":59.47,"o":59.5,"c":59.44,"h":59.55,"l":59.41,"t":1710164100000,'
            '"n":800},{"v":97000,"vw":59.4,"o":59.44,"c":59.4,"h":59.5,"l":59.4,"t":1710164400000,"n":8}],"status":"OK"}'
        ),
        [
            ("KO", "5m", "2024-03-11 13:30", 59.4, 59.6, 59.3, 59.5, 120345.0),
            ("KO", "5m", "2024-03-11 13:35", 59.5, 59.55, 59.41, 59.44, 98000.0),
            ("KO", "5m", "2024-03-11 13:40", 59.44, 59.5, 59.4, 59.4, 97000.0),
        ],
    ),
    "Alpaca's JSON of two symbols": (
        "bars_1d.json",
        (
            '{"bars": {"KO": [{"t": "2024-03-11T04:00:00Z", "o": 59.4, "h": 60.4, "l": 59.3, "c": 60.1, "v": 16120345, '
            '"n": 90, "vw": 59.9}], "PEP": [{"t": "2024-03-11T04:00:00Z", "o": 164.0, "h": 166.0, "l": 163.5, "c": 165.25,'
            ' "v": 5120345, "n": 80, "vw": 165.0}]}, "next_page_token": null}'
        ),
        [
            ("KO", "1d", "2024-03-11 13:30", 59.4, 60.4, 59.3, 60.1, 16120345.0),
            ("PEP", "1d", "2024-03-11 13:30", 164.0, 166.0, 163.5, 165.25, 5120345.0),
        ],
    ),
    "Finnhub's JSON": (
        "KO_D.json",
        (
            '{"c":[60.1,60.5],"h":[60.4,60.6],"l":[59.3,59.9],"o":[59.4,60.2],"s":"ok","t":[1710115200,1710201600],'
            '"v":[16120345,13120345]}'
        ),
        [
            ("KO", "1d", "2024-03-11 13:30", 59.4, 60.4, 59.3, 60.1, 16120345.0),
            ("KO", "1d", "2024-03-12 13:30", 60.2, 60.6, 59.9, 60.5, 13120345.0),
        ],
    ),
    "Yahoo's chart JSON": (
        "chart.json",
        (
            '{"chart":{"result":[{"meta":{"currency":"USD","symbol":"KO","dataGranularity":"5m"},'
            '"timestamp":[1710163800,1710164100],"indicators":{"quote":[{"open":[59.4,59.5],"high":[59.6,59.55],'
            '"low":[59.3,59.41],"close":[59.5,59.44],"volume":[120345,98000]}]}}],"error":null}}'
        ),
        [
            ("KO", "5m", "2024-03-11 13:30", 59.4, 59.6, 59.3, 59.5, 120345.0),
            ("KO", "5m", "2024-03-11 13:35", 59.5, 59.55, 59.41, 59.44, 98000.0),
        ],
    ),
    "Twelve Data's JSON": (
        "series.json",
        (
            '{"meta":{"symbol":"KO","interval":"1day","exchange_timezone":"America/New_York"},"values":[{"datetime":'
            '"2024-03-11","open":"59.40","high":"60.40","low":"59.30","close":"60.10","volume":"16120345"}],"status":"ok"}'
        ),
        [("KO", "1d", "2024-03-11 13:30", 59.4, 60.4, 59.3, 60.1, 16120345.0)],
    ),
    "Oanda's JSON": (
        "candles.json",
        (
            '{"instrument":"EUR_USD","granularity":"H1","candles":[{"complete":true,"volume":5012,'
            '"time":"2024-03-11T14:00:00.000000000Z","mid":{"o":"1.09401","h":"1.09480","l":"1.09350","c":"1.09362"}}]}'
        ),
        [("EUR_USD", "1h", "2024-03-11 14:00", 1.09401, 1.0948, 1.0935, 1.09362, 5012.0)],
    ),
    "CryptoDataDownload": (
        "Binance_BTCUSDT_1h.csv",
        (
            "https://www.CryptoDataDownload.com\nUnix,Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USDT,tradecount\n"
            "1706745600000,2024-02-01 00:00:00,BTCUSDT,42580.1,42700.9,42400.0,42550.25,412.125,17500000.5,50123\n"
        ),
        [("BTCUSDT", "1h", "2024-02-01 00:00", 42580.1, 42700.9, 42400.0, 42550.25, 412.125)],
    ),
    "Dukascopy": (
        "EURUSD_Candlestick_1_Hour_BID_11.03.2024-12.03.2024.csv",
        "Gmt time,Open,High,Low,Close,Volume\n11.03.2024 14:00:00.000,1.09401,1.0948,1.0935,1.09362,5012.36\n",
        [("EURUSD", "1h", "2024-03-11 14:00", 1.09401, 1.0948, 1.0935, 1.09362, 5012.36)],
    ),
    "Kibot": (
        "KO_5min.txt",
        "03/14/2024,09:30,59.4,59.6,59.3,59.5,120345\n03/14/2024,09:35,59.5,59.55,59.41,59.44,98000\n",
        [
            ("KO", "5m", "2024-03-14 13:30", 59.4, 59.6, 59.3, 59.5, 120345.0),
            ("KO", "5m", "2024-03-14 13:35", 59.5, 59.55, 59.41, 59.44, 98000.0),
        ],
    ),
    "Tiingo": (
        "ko_daily.csv",
        (
            "date,close,high,low,open,volume,adjClose,adjHigh,adjLow,adjOpen,adjVolume,divCash,splitFactor\n"
            "2024-03-11,60.1,60.4,59.3,59.4,16120345,58.9,59.2,58.1,58.2,16120345,0.0,1.0\n"
        ),
        [("KO", "1d", "2024-03-11 13:30", 59.4, 60.4, 59.3, 60.1, 16120345.0)],
    ),
    "a German site": (
        "SAP.DE_1d.csv",
        "Datum;Erster;Hoch;Tief;Schlusskurs;Stuecke;Volumen\n2024-03-11;171,5;173;170,08;172,9;1.234.567;213.456.789\n",
        [("SAP.DE", "1d", "2024-03-11 08:00", 171.5, 173.0, 170.08, 172.9, 1234567.0)],
    ),
    "Bloomberg's spreadsheet": (
        "KO_1d.csv",
        "Dates,PX_OPEN,PX_HIGH,PX_LOW,PX_LAST,PX_VOLUME\n3/14/2024,59.4,60.4,59.3,60.1,16120345\n",
        [("KO", "1d", "2024-03-14 13:30", 59.4, 60.4, 59.3, 60.1, 16120345.0)],
    ),
    "Refinitiv's spreadsheet": (
        "KO_1d.csv",
        "Exchange Date,Trade Close,Trade Open,Trade Low,Trade High,Trade Volume\n14-Mar-2024,60.1,59.4,59.3,60.4,16120345\n",
        [("KO", "1d", "2024-03-14 13:30", 59.4, 60.4, 59.3, 60.1, 16120345.0)],
    ),
    "days and hours in two columns": (
        "BTC-USD.csv",
        "date,hour,open,high,low,close\n2024-03-11,8,5,7,4,6\n2024-03-11,9,6,7,5,6\n2024-03-11,10,6,8,5,7\n",
        [
            ("BTC-USD", "1h", "2024-03-11 08:00", 5.0, 7.0, 4.0, 6.0, None),
            ("BTC-USD", "1h", "2024-03-11 09:00", 6.0, 7.0, 5.0, 6.0, None),
            ("BTC-USD", "1h", "2024-03-11 10:00", 6.0, 8.0, 5.0, 7.0, None),
        ],
    ),
    "PostgreSQL's own CSV": (
        "ohlc.csv",
        "symbol,timeframe,ts,open,high,low,close,volume\nKO,5m,2024-03-11 13:30:00+00,59.4,59.6,59.3,59.5,\n",
        [("KO", "5m", "2024-03-11 13:30", 59.4, 59.6, 59.3, 59.5, None)],
    ),
    "a data set of many symbols by name": (
        "all_stocks_1d.csv",
        (
            "date,open,high,low,close,volume,Name\n2024-03-11,59.4,60.4,59.3,60.1,16120345,KO\n"
            "2024-03-11,164.0,166.0,163.5,165.25,5120345,PEP\n"
        ),
        [
            ("KO", "1d", "2024-03-11 13:30", 59.4, 60.4, 59.3, 60.1, 16120345.0),
            ("PEP", "1d", "2024-03-11 13:30", 164.0, 166.0, 163.5, 165.25, 5120345.0),
        ],
    ),
    "an index without a name, as pandas saves it": (
        "KO.csv",
        ",Open,High,Low,Close,Volume\n2024-03-11,59.4,60.4,59.3,60.1,16120345\n",
        [("KO", "1d", "2024-03-11 13:30", 59.4, 60.4, 59.3, 60.1, 16120345.0)],
    ),
    "MetaStock's text, of days": (
        "all.txt",
        (
            "<TICKER>,<PER>,<DTYYYYMMDD>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
            "KO,D,20240311,000000,59.4,60.4,59.3,60.1,16120345,0\n"
        ),
        [("KO", "1d", "2024-03-11 13:30", 59.4, 60.4, 59.3, 60.1, 16120345.0)],
    ),
    "Databento, in billionths": (
        "xnas-itch-20240102.ohlcv-1h.csv",
        (
            "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol\n"
            "1704205800000000000,34,2,32,187150000000,187440000000,187030000000,187320000001,514449,AAPL\n"
            "1704209400000000000,34,2,32,187320000000,187400000000,187000000000,187100000000,412,AAPL\n"
        ),
        [
            ("AAPL", "1h", "2024-01-02 14:30", 187.15, 187.44, 187.03, 187.320000001, 514449.0),
            ("AAPL", "1h", "2024-01-02 15:30", 187.32, 187.4, 187.0, 187.1, 412.0),
        ],
    ),
    "Databento, in decimals": (
        "xnas-itch-20240102.ohlcv-1h.csv",
        (
            "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol\n"
            "2024-01-02T14:30:00.000000000Z,34,2,32,187.150000000,187.440000000,187.030000000,187.000000000,514449,AAPL\n"
            "2024-01-02T15:30:00.000000000Z,34,2,32,187.000000000,187.400000000,187.000000000,187.100000000,412,AAPL\n"
        ),
        [
            ("AAPL", "1h", "2024-01-02 14:30", 187.15, 187.44, 187.03, 187.0, 514449.0),
            ("AAPL", "1h", "2024-01-02 15:30", 187.0, 187.4, 187.0, 187.1, 412.0),
        ],
    ),
    "Tushare": (
        "daily.csv",
        (
            "ts_code,trade_date,open,high,low,close,pre_close,change,pct_chg,vol,amount\n"
            "600000.SH,20240103,6.58,6.62,6.55,6.6,6.59,0.01,0.15,180211.5,118765.2\n"
            "600000.SH,20240102,6.63,6.66,6.58,6.59,6.62,-0.03,-0.45,231458.0,153012.3\n"
        ),
        [
            ("600000.SS", "1d", "2024-01-03 01:30", 6.58, 6.62, 6.55, 6.6, 18021150.0),
            ("600000.SS", "1d", "2024-01-02 01:30", 6.63, 6.66, 6.58, 6.59, 23145800.0),
        ],
    ),
    "AKShare": (
        "000001.SZ.csv",
        (
            "日期,股票代码,开盘,收盘,最高,最低,成交量,成交额,振幅,涨跌幅,涨跌额,换手率\n"
            "2024-01-02,000001,9.39,9.21,9.42,9.21,1158366,1075742252.45,2.24,-1.92,-0.18,0.6\n"
        ),
        [("000001.SZ", "1d", "2024-01-02 01:30", 9.39, 9.42, 9.21, 9.21, 115836600.0)],
    ),
    "Baostock, with an adjusted row": (
        "k_5m.csv",
        (
            "date,time,code,open,high,low,close,volume,amount,adjustflag\n"
            "2024-01-02,20240102093500000,sh.600000,6.63,6.65,6.62,6.64,1203400,7981234.5,3\n"
            "2024-01-02,20240102094000000,sh.600000,6.64,6.66,6.64,6.65,903400,5981234.5,3\n"
            "2024-01-02,20240102094500000,sh.600000,5.64,5.66,5.64,5.65,903400,5981234.5,2\n"
        ),
        [
            ("600000.SS", "5m", "2024-01-02 01:30", 6.63, 6.65, 6.62, 6.64, 1203400.0),
            ("600000.SS", "5m", "2024-01-02 01:35", 6.64, 6.66, 6.64, 6.65, 903400.0),
        ],
    ),
    "Deribit's chart": (
        "BTC-USD_5m.json",
        (
            '{"jsonrpc":"2.0","result":{"volume":[121.4,98.2],"ticks":[1704067200000,1704067500000],"status":"ok",'
            '"open":[42283.5,42475.0],"low":[42261.0,42400.5],"high":[42554.5,42500.0],"cost":[5.0,4.0],'
            '"close":[42475.0,42450.5]}}'
        ),
        [
            ("BTC-USD", "5m", "2024-01-01 00:00", 42283.5, 42554.5, 42261.0, 42475.0, 121.4),
            ("BTC-USD", "5m", "2024-01-01 00:05", 42475.0, 42500.0, 42400.5, 42450.5, 98.2),
        ],
    ),
    "R's quantmod": (
        "prices.csv",
        (
            '"Index","BRK.B.Open","BRK.B.High","BRK.B.Low","BRK.B.Close","BRK.B.Volume","BRK.B.Adjusted"\n'
            "2024-03-11,406.4,407.5,403.1,405.2,2912300,401.1\n"
        ),
        [("BRK.B", "1d", "2024-03-11 13:30", 406.4, 407.5, 403.1, 405.2, 2912300.0)],
    ),
    "a table of pandas with flattened names": (
        "prices.csv",
        (
            "Date,Close_KO,Close_BTC-USD,High_KO,High_BTC-USD,Low_KO,Low_BTC-USD,Open_KO,Open_BTC-USD\n"
            "2024-03-10,,69019.8,,70000.5,,68000.25,,68500.0\n"
            "2024-03-11,60.1,72123.9,60.4,72850.7,59.3,67194.9,59.4,69020.5\n"
        ),
        [
            ("KO", "1d", "2024-03-11 13:30", 59.4, 60.4, 59.3, 60.1, None),
            ("BTC-USD", "1d", "2024-03-10 00:00", 68500.0, 70000.5, 68000.25, 69019.8, None),
            ("BTC-USD", "1d", "2024-03-11 00:00", 69020.5, 72850.7, 67194.9, 72123.9, None),
        ],
    ),
    "a row per field, with fields of other tables": (
        "prices.csv",
        (
            "date,symbol,field,value\n"
            "2024-03-10,BTC-USD,open,68500\n2024-03-11,KO,open,59.4\n2024-03-11,KO,market_cap,2.6e11\n"
            "2024-03-11,KO,volume,13500\n2024-03-10,BTC-USD,high,70000.5\n2024-03-11,KO,high,60.4\n"
            "2024-03-10,BTC-USD,low,68000.25\n2024-03-11,KO,low,59.3\n2024-03-10,BTC-USD,close,69019.8\n"
            "2024-03-11,KO,close,60.1\n"
        ),
        [
            ("BTC-USD", "1d", "2024-03-10 00:00", 68500.0, 70000.5, 68000.25, 69019.8, None),
            ("KO", "1d", "2024-03-11 13:30", 59.4, 60.4, 59.3, 60.1, 13500.0),
        ],
    ),
    "a stacked table of pandas": (
        "KO.csv",
        (
            "Date,Price,0\n2024-03-11,Close,60.1\n2024-03-11,High,60.4\n2024-03-11,Low,59.3\n2024-03-11,Open,59.4\n"
            "2024-03-12,Close,60.2\n2024-03-12,High,60.5\n2024-03-12,Low,59.9\n2024-03-12,Open,60\n"
        ),
        [
            ("KO", "1d", "2024-03-11 13:30", 59.4, 60.4, 59.3, 60.1, None),
            ("KO", "1d", "2024-03-12 13:30", 60.0, 60.5, 59.9, 60.2, None),
        ],
    ),
    "a row per field called first, max, min and last": (
        "k.csv",
        (
            "day,ticker,field,value\n2024-03-11,KO,first,59.4\n2024-03-11,KO,max,60.4\n2024-03-11,KO,min,59.3\n"
            "2024-03-11,KO,last,60.1\n"
        ),
        [("KO", "1d", "2024-03-11 13:30", 59.4, 60.4, 59.3, 60.1, None)],
    ),
    "a value per ticker and five minutes": (
        "k.csv",
        "date,ticker,value\n2024-03-11 13:30Z,KO,60\n2024-03-11 13:35Z,KO,60.1\n2024-03-11 13:40Z,KO,60.3\n",
        [
            ("KO", "5m", "2024-03-11 13:30", 60.0, 60.0, 60.0, 60.0, None),
            ("KO", "5m", "2024-03-11 13:35", 60.1, 60.1, 60.1, 60.1, None),
            ("KO", "5m", "2024-03-11 13:40", 60.3, 60.3, 60.3, 60.3, None),
        ],
    ),
    "closes and volumes in rows of their own": (
        "k.csv",
        "ticker,ts,variable,price\nKO,2024-03-11,px_last,60.1\nKO,2024-03-11,px_volume,13500\n",
        [("KO", "1d", "2024-03-11 13:30", 60.1, 60.1, 60.1, 60.1, 13500.0)],
    ),
    "CRSP": (
        "crsp.csv",
        (
            "PERMNO,date,TICKER,BIDLO,ASKHI,PRC,VOL,OPENPRC\n"
            "14593,2024-01-02,AAPL,183.89,188.44,185.64,82488674,187.15\n"
            "14593,2024-01-03,AAPL,183.43,185.88,-184.25,0,184.22\n"
        ),
        [
            ("AAPL", "1d", "2024-01-02 14:30", 187.15, 188.44, 183.89, 185.64, 82488674.0),
            ("AAPL", "1d", "2024-01-03 14:30", 184.22, 185.88, 183.43, -184.25, 0.0),
        ],
    ),
    "CRSP since 2022": (
        "wrds.csv",
        (
            "PERMNO,Ticker,DlyCalDt,DlyOpen,DlyHigh,DlyLow,DlyPrc,DlyClose,DlyVol\n"
            "14593,AAPL,2024-01-02,187.15,188.44,183.89,-185.64,185.64,82488674\n"
        ),
        [("AAPL", "1d", "2024-01-02 14:30", 187.15, 188.44, 183.89, 185.64, 82488674.0)],
    ),
    "LEAN": (
        "aapl_daily.csv",
        "20240102 00:00,1871500,1884400,1838900,1856400,82488674\n20240103 00:00,1842200,1858800,1834300,1842500,58414460\n",
        [
            ("AAPL", "1d", "2024-01-02 14:30", 187.15, 188.44, 183.89, 185.64, 82488674.0),
            ("AAPL", "1d", "2024-01-03 14:30", 184.22, 185.88, 183.43, 184.25, 58414460.0),
        ],
    ),
    "IEX Cloud": (
        "AAPL_5m.json",
        (
            '[{"date":"2024-01-02","minute":"09:30","label":"09:30 AM","open":187.15,"high":187.44,"low":187.03,'
            '"close":187.32,"average":187.2,"volume":5144,"notional":962956.8,"numberOfTrades":61},'
            '{"date":"2024-01-02","minute":"09:35","label":"09:35 AM","open":187.32,"high":187.5,"low":187.3,'
            '"close":187.4,"average":187.4,"volume":3144,"notional":589185.6,"numberOfTrades":40}]'
        ),
        [
            ("AAPL", "5m", "2024-01-02 14:30", 187.15, 187.44, 187.03, 187.32, 5144.0),
            ("AAPL", "5m", "2024-01-02 14:35", 187.32, 187.5, 187.3, 187.4, 3144.0),
        ],
    ),
}


# Two days in the editions of Investing.com and similar sites: the name of a file, its head and its rows.
LANGUAGES: dict[str, tuple[str, str, str, str]] = {
    "German": (
        "SAP.DE",
        '"Datum","Zuletzt","Eröffn.","Hoch","Tief","Vol.","+/- %"',
        '"18.01.2024","141,90","142,50","143,10","141,08","3,25K","0,5%"',
        '"17.01.2024","141,00","140,50","142,10","140,08","1,25M","0,5%"',
    ),
    "French": (
        "MC.PA",
        '"Date","Dernier","Ouv."," Plus Haut","Plus Bas","Vol.","Variation %"',
        '"18/01/2024","141,90","142,50","143,10","141,08","3,25K","0,5%"',
        '"17/01/2024","141,00","140,50","142,10","140,08","1,25M","0,5%"',
    ),
    "Spanish": (
        "SAN.MC",
        '"Fecha","Último","Apertura","Máximo","Mínimo","Vol.","% var."',
        '"18.01.2024","141,90","142,50","143,10","141,08","3,25K","0,5%"',
        '"17.01.2024","141,00","140,50","142,10","140,08","1,25M","0,5%"',
    ),
    "Italian": (
        "ENI.MI",
        '"Data","Ultimo","Apertura","Massimo","Minimo","Vol.","Var. %"',
        '"18.01.2024","141,90","142,50","143,10","141,08","3,25K","0,5%"',
        '"17.01.2024","141,00","140,50","142,10","140,08","1,25M","0,5%"',
    ),
    "Portuguese": (
        "PETR4.SA",
        '"Data","Último","Abertura","Máxima","Mínima","Vol.","Var%"',
        '"18.01.2024","141,90","142,50","143,10","141,08","3,25K","0,5%"',
        '"17.01.2024","141,00","140,50","142,10","140,08","1,25M","0,5%"',
    ),
    "Dutch": (
        "ASML.AS",
        '"Datum","Laatste","Open","Hoog","Laag","Vol.","Verschil %"',
        '"18-01-2024","141,90","142,50","143,10","141,08","3,25K","0,5%"',
        '"17-01-2024","141,00","140,50","142,10","140,08","1,25M","0,5%"',
    ),
    "Russian": (
        "BTC-USD",
        '"Дата","Цена","Откр.","Макс.","Мин.","Объём","Изм. %"',
        '"18.01.2024","141,90","142,50","143,10","141,08","3,25K","0,5%"',
        '"17.01.2024","141,00","140,50","142,10","140,08","1,25M","0,5%"',
    ),
    "Turkish": (
        "THYAO.IS",
        '"Tarih","Şimdi","Açılış","Yüksek","Düşük","Hac.","Fark %"',
        '"18.01.2024","141,90","142,50","143,10","141,08","3,25K","0,5%"',
        '"17.01.2024","141,00","140,50","142,10","140,08","1,25M","0,5%"',
    ),
    "Japanese": (
        "7203.T",
        '"日付け","終値","始値","高値","安値","出来高","変化率 %"',
        '"2024年01月18日","141.90","142.50","143.10","141.08","3.25K","0.5%"',
        '"2024年01月17日","141.00","140.50","142.10","140.08","1.25M","0.5%"',
    ),
    "Korean": (
        "005930.KS",
        '"날짜","종가","시가","고가","저가","거래량","변동 %"',
        '"2024- 01- 18","141.90","142.50","143.10","141.08","3.25K","0.5%"',
        '"2024- 01- 17","141.00","140.50","142.10","140.08","1.25M","0.5%"',
    ),
    "Chinese": (
        "600519.SS",
        '"日期","收盘","开盘","高","低","交易量","涨跌幅"',
        '"2024-1-18","141.90","142.50","143.10","141.08","3.25K","0.5%"',
        '"2024-1-17","141.00","140.50","142.10","140.08","1.25M","0.5%"',
    ),
}


@pytest.mark.parametrize("language", mostly_broad(list(LANGUAGES), 3))
def test_column_names_may_be_in_other_languages(language: str, tmp_path: Path) -> None:
    symbol, *lines = LANGUAGES[language]
    found = understood(written(tmp_path, "\n".join(lines) + "\n", f"{symbol}.csv"))
    assert found.source.layout.name == f"{language} names"
    assert [(row[0], row[1], f"{row[2]:%Y-%m-%d}", *row[3:]) for row in found.bars.rows()] == [
        (symbol, "1d", "2024-01-18", 142.5, 143.1, 141.08, 141.9, 3250.0),
        (symbol, "1d", "2024-01-17", 140.5, 142.1, 140.08, 141.0, 1250000.0),
    ]


@pytest.mark.broad
@pytest.mark.parametrize(
    ("language", "encoding", "name"),
    [
        ("Spanish", "cp1252", "Windows-1252"),
        ("Russian", "cp1251", "Windows-1251"),
        ("Turkish", "cp1254", "Windows-1254"),
        ("Chinese", "gbk", "GB 18030"),
        ("Japanese", "cp932", "Shift JIS"),
        ("Korean", "cp949", "EUC-KR"),
    ],
)
def test_names_in_other_languages_are_read_in_the_encoding_of_their_country(
    language: str, encoding: str, name: str, tmp_path: Path
) -> None:
    symbol, *lines = LANGUAGES[language]
    data = ("\n".join(lines) + "\n").encode(encoding)
    found = understood(written(tmp_path, data, f"{symbol}.csv"))
    assert found.source.layout.name == f"{language} names"
    assert name in found.source.notes
    assert found.bars["close"].to_list() == [141.9, 141.0]


def test_the_currency_of_coinmarketcap_is_not_the_symbol(tmp_path: Path) -> None:
    text = (
        "timeOpen;timeClose;timeHigh;timeLow;name;open;high;low;close;volume;marketCap;timestamp\n"
        '"2024-01-02T00:00:00.000Z";"2024-01-02T23:59:59.999Z";"2024-01-02T14:37:00.000Z";"2024-01-02T00:01:00.000Z";'
        '"2781";44187.14;45899.71;44176.95;44957.97;39335274536.27;880650158126.63;"2024-01-02T23:59:59.999Z"\n'
    )
    path = written(tmp_path, text, "Bitcoin_1_1_2024-1_9_2024_historical_data_coinmarketcap.csv")
    assert list(question(path).values()) == [{"symbol": "SYMBOL"}]
    found = understood(path, symbol="BTC-USD")
    assert [(row[0], row[1], f"{row[2]:%Y-%m-%d %H:%M}", *row[3:7]) for row in found.bars.rows()] == [
        ("BTC-USD", "1d", "2024-01-02 00:00", 44187.14, 45899.71, 44176.95, 44957.97)
    ]


@pytest.mark.parametrize(
    ("zone", "clock", "expected"),
    [("US/Eastern", "09:30:00", "14:30"), ("UTC", "14:30", "14:30"), ("GMT", "14:30:00", "14:30")],
)
def test_the_zone_that_the_file_states_is_that_of_its_times(
    zone: str, clock: str, expected: str, tmp_path: Path
) -> None:
    bar = '{"1. open": "187.15", "2. high": "187.44", "3. low": "187.03", "4. close": "187.32", "5. volume": "5144"}'
    meta = f'{{"2. Symbol": "AAPL", "4. Interval": "5min", "6. Time Zone": "{zone}"}}'
    text = f'{{"Meta Data": {meta}, "Time Series (5min)": {{"2024-01-02 {clock}": {bar}}}}}'
    found = understood(written(tmp_path, text, "query.json"))
    assert [(row[0], row[1], f"{row[2]:%Y-%m-%d %H:%M}") for row in found.bars.rows()] == [
        ("AAPL", "5m", f"2024-01-02 {expected}")
    ]


def test_a_stated_zone_that_may_be_several_is_not_used(tmp_path: Path) -> None:
    bars = ",".join(
        f'"2024-01-02 09:{minute}:00": {{"1. open": "1", "2. high": "2", "3. low": "1", "4. close": "2"}}'
        for minute in (30, 35, 40)
    )
    path = written(tmp_path, f'{{"Meta Data": {{"6. Time Zone": "CST"}}, "x": {{{bars}}}}}', "AAPL_5m.json")
    assert list(question(path).values()) == [{"tz": "America/New_York"}]


def test_prefixes_of_bid_and_ask_are_not_tickers(tmp_path: Path) -> None:
    text = "Date,BID.Open,BID.High,BID.Low,BID.Close\n2024-03-11,59.4,60.4,59.3,60.1\n"
    path = written(tmp_path, text, "KO.csv")
    assert refusal(path) == "has prices of bid"
    assert question(path) == {"as the prices of bid": {"columns": "date,open,high,low,close"}}


def test_two_different_closes_of_one_bar_are_refused(tmp_path: Path) -> None:
    text = "date,symbol,field,value\n" + "".join(
        f"2024-03-11,KO,{name},60\n" for name in ("open", "high", "low", "close")
    )
    path = written(tmp_path, f"{text}2024-03-11,KO,close,60\n2024-03-11,KO,close,61\n")
    assert refusal(path) == "line 7: a second, different close of the same bar"


def test_notes_report_which_rows_of_a_table_with_one_row_per_field_are_skipped(tmp_path: Path) -> None:
    fields = ("open", "high", "low", "close", "pe", "beta")
    text = "day,symbol,field,value\n" + "".join(f"2024-03-11,KO,{name},60\n" for name in fields)
    notes = read_text(tmp_path, text).notes
    assert notes[:2] == ("one row per field: open, high, low, close", "2 rows of other fields are left out")


def test_a_table_with_rows_of_opens_and_closes_only_lacks_high_and_low(tmp_path: Path) -> None:
    text = "date,ticker,type,price\n2024-03-11,KO,open,59\n2024-03-11,KO,close,60\n"
    assert refusal(written(tmp_path, text)).startswith("lacks the columns high, low; needed are ts")


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_file_of_a_vendor_is_read_exactly(vendor: str, tmp_path: Path) -> None:
    name, text, expected = VENDORS[vendor]
    assert rows(tmp_path, text, name) == expected


@pytest.mark.parametrize("layout", [BY_NAME, *discover()], ids=lambda each: each.name)
def test_the_example_of_every_layout_is_recognised_as_its_own(layout: Layout, tmp_path: Path) -> None:
    found = read_text(tmp_path, layout.example + "\n", "AAPL_1h.csv")
    assert found.layout is layout
    assert found.bars.height >= 1
    assert (
        found.bars.null_count().select("symbol", "timeframe", "wall", "open", "high", "low", "close").row(0) == (0,) * 7
    )


def test_the_volume_of_metatrader_5_is_the_real_volume_if_there_is_one(tmp_path: Path) -> None:
    head = "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
    with_real = head + "2024.03.11\t09:30:00\t59.4\t59.6\t59.3\t59.5\t512\t120300\t3\n"
    without = head + "2024.03.11\t09:30:00\t59.4\t59.6\t59.3\t59.5\t512\t0\t3\n"
    assert read_text(tmp_path, with_real, "KO_M5.csv").bars["volume"].to_list() == [120300.0]
    assert read_text(tmp_path, without, "KO_M5.csv").bars["volume"].to_list() == [512.0]


def test_notes_report_which_parts_of_a_file_were_skipped(tmp_path: Path) -> None:
    _, text, _ = VENDORS["NSE's bhavcopy"]
    assert "1 row left out that is not series BE or EQ" in read_text(tmp_path, text).notes
    _, text, _ = VENDORS["Yahoo's web download"]
    assert "Adj Close is left out: stored prices are not adjusted for dividends" in read_text(tmp_path, text).notes
    _, text, _ = VENDORS["FRED"]
    notes = read_text(tmp_path, text).notes
    assert "1 row without prices left out" in notes
    assert "one price per row: open, high, low and close are the same" in notes


@pytest.mark.parametrize("suffix", [".US", ".UK", ".JP", ".HK", ".DE", ""])
def test_symbols_of_stooq_get_the_usual_suffix_of_their_market(tmp_path: Path, suffix: str) -> None:
    text = VENDORS["Stooq's days"][1].replace("KO.US", f"KO{suffix}")
    usual = {".US": "", ".UK": ".L", ".JP": ".T"}.get(suffix, suffix)
    assert understood(written(tmp_path, text, "days.txt")).bars["symbol"].to_list() == [f"KO{usual}"]


def test_a_row_per_field_may_be_any_number_of_rows(tmp_path: Path) -> None:
    fields = {"open": 59.4, "high": 60.4, "low": 59.3, "close": 60.1}
    lines = [f"2024-03-{day:02},KO,{name},{value}\n" for day in range(1, 31) for name, value in fields.items()]
    found = read_text(tmp_path, "date,symbol,field,value\n" + "".join(lines))
    assert found.bars.select(list(fields)).unique().rows() == [tuple(fields.values())]
    assert found.bars.height == 30


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        ("date,symbol,field,raw,adjusted\n2024-03-11,KO,open,59,58\n2024-03-11,KO,close,60,59\n", "columns open, high"),
        ("symbol,field,value\nKO,open,59\nKO,close,60\n", "column ts"),
    ],
    ids=["two columns of numbers", "no date"],
)
def test_a_row_per_field_needs_a_date_and_one_column_of_numbers(text: str, lacks: str, tmp_path: Path) -> None:
    assert refusal(written(tmp_path, text)).startswith(f"lacks the {lacks}")


def test_closes_beside_an_unknown_kind_of_price_are_not_one_row_per_field(tmp_path: Path) -> None:
    found = read_text(tmp_path, "date,symbol,kind,value\n2024-03-11,KO,fair,59\n2024-03-12,KO,close,60\n")
    assert found.bars["close"].to_list() == [59.0, 60.0]
