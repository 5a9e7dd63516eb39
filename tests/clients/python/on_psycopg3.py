"""psycopg 3: libpq's extended protocol, statements prepared by the driver after five uses, pipelines."""
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
from psycopg import errors
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

from common import *


def dial(**more):
    return psycopg.connect(URL, **more)


def ask(db, sql, values=None, **how):
    cursor = db.execute(sql, values, **how)
    return cursor.fetchone() if cursor.description else None


@behaviour
def connect():
    with dial(application_name="clients", options="-c work_mem=3MB") as db:
        return ask(db, LOOK)[0]


@behaviour
def simple():
    with dial() as db:
        return " ".join(map(str, ask(db, "select 1, 'two'")))


@behaviour
def types():
    sent = (NUMBER, TEXT, None, DECIMAL, MOMENT, BYTES, DOCUMENT, NUMBERS, TEXTS)
    values = (NUMBER, TEXT, None, DECIMAL, MOMENT, BYTES, Jsonb(DOCUMENT), NUMBERS, TEXTS)
    with dial() as db:
        sql = ("select %s::int, %s::text, %s::int, %s::numeric, %s::timestamptz, %s::bytea, %s::jsonb, "
               "%s::int[], %s::text[]")
        text = same(sent, ask(db, sql, values))
        binary = same(sent, ask(db, sql, values, binary=True))
        return text if text == binary else binary


@behaviour
def prepared():
    with dial(autocommit=True) as db:
        return sum(ask(db, "select %s::int + 1", (n,), prepare=True)[0] for n in range(20))


@behaviour
def many():
    with dial() as db, db.cursor() as cursor:
        cursor.execute("drop table if exists many")
        cursor.execute("create table many (n int)")
        cursor.executemany("insert into many values (%s)", [(n,) for n in range(50)])
        with db.pipeline():
            for n in range(50, 100):
                cursor.execute("insert into many values (%s)", (n,))
        return "%s %s" % ask(db, "select count(*), sum(n) from many")


@behaviour
def transaction():
    with dial() as db:
        ask(db, "drop table if exists kept; create table kept (n int)")
        ask(db, "insert into kept values (1)")
        db.commit()
        ask(db, "insert into kept values (2)")
        db.rollback()
        with db.transaction():
            ask(db, "insert into kept values (3)")
            with db.transaction(force_rollback=True):
                ask(db, "insert into kept values (4)")
        return ask(db, "select string_agg(n::text, ',' order by n) from kept")[0]


@behaviour
def recovery():
    with dial() as db:
        heard = []
        for sql in ["select 1/0", "select 2"]:
            try:
                ask(db, sql)
            except psycopg.Error as error:
                heard.append(error.sqlstate)
        db.rollback()
        return " ".join([*heard, str(ask(db, "select 3")[0])])


@behaviour
def unique():
    with dial() as db:
        ask(db, "drop table if exists tokens; create table tokens (n int primary key); insert into tokens values (1)")
        try:
            ask(db, "insert into tokens values (1)")
        except errors.UniqueViolation as error:
            return f"{error.sqlstate} {error.diag.constraint_name}"


@behaviour
def notice():
    heard = []
    with dial() as db:
        db.add_notice_handler(lambda said: heard.append(said.message_primary))
        ask(db, "do $$ begin raise notice 'heard %', 7; end $$")
    return heard[0]


@behaviour
def altered():
    with dial(autocommit=True) as db, dial(autocommit=True) as other:
        ask(other, "drop table if exists altered; create table altered (a int); insert into altered values (1)")
        before = len(ask(db, "select * from altered", prepare=True))
        ask(other, "alter table altered add b int")
        for _ in range(3):
            try:
                return f"{before} {len(ask(db, 'select * from altered', prepare=True))}"
            except errors.FeatureNotSupported:
                # What PostgreSQL says of a plan that does not fit any more; the driver is to forget its statement.
                db.execute("deallocate all")


@behaviour
def copy():
    with dial() as db, db.cursor() as cursor:
        cursor.execute("drop table if exists copied; create table copied (n int, t text)")
        with cursor.copy("copy copied from stdin") as into:
            for n in range(1000):
                into.write_row((n, f"ü{n}"))
        with cursor.copy("copy copied to stdout (format binary)") as out:
            out.set_types(["int4", "text"])
            rows = sum(row[1] == f"ü{row[0]}" for row in out.rows())
        return f"{ask(db, 'select count(*) from copied')[0]} {rows}"


@behaviour
def cursor():
    with dial() as db, db.cursor("on_server") as cursor:
        cursor.itersize = 50
        cursor.execute("select n from generate_series(0, 999) n")
        numbers = [row[0] for row in cursor]
        return f"{len(numbers)} {sum(numbers)}"


@behaviour
def stream():
    with dial() as db, db.cursor() as cursor:
        rows = [len(row[1]) for row in cursor.stream(ROWS)]
        return f"{len(rows)} {sum(rows)}"


@behaviour
def listen():
    with dial(autocommit=True) as db, dial(autocommit=True) as other:
        ask(db, "listen heard")
        ask(other, "select pg_notify('heard', %s)", ("hello",))
        return next(db.notifies(timeout=30)).payload


@behaviour
def cancel():
    with dial() as db, dial(autocommit=True) as other:

        def later():
            while ask(other, SLEEPERS)[0] == 0:
                pass
            db.cancel_safe()

        thread = threading.Thread(target=later)
        thread.start()
        try:
            ask(db, "select pg_sleep(600)")
        except errors.QueryCanceled:
            thread.join()
            db.rollback()
            return f"cancelled {ask(db, 'select 1')[0]}"


@behaviour
def timeout():
    with dial() as db:
        ask(db, "set local statement_timeout = '200ms'")
        try:
            ask(db, "select pg_sleep(600)")
        except psycopg.Error as error:
            return error.sqlstate


@behaviour
def reconnects():
    def once():
        with dial() as db:
            return ask(db, "select 1")[0]

    return sum(once() for _ in range(50))


@behaviour
def pool():
    def task(token):
        right = 0
        for n in range(50):
            with pool.connection() as db:
                row = ask(db, "select %s::text || '-' || %s::text", (str(token), str(n)))
                right += row[0] == f"{token}-{n}"
        return right

    with ConnectionPool(URL, min_size=1, max_size=10) as pool, ThreadPoolExecutor(10) as executor:
        return sum(executor.map(task, range(10)))


@behaviour
def timezone():
    with dial() as db:
        ask(db, "set timezone to 'Asia/Tokyo'")
        db.commit()
        return ask(db, "show timezone")[0]


@behaviour
def reset():
    with dial(application_name="clients", autocommit=True) as db:
        ask(db, "set application_name = 'other'")
        ask(db, "set work_mem = '1MB'")
        ask(db, "reset all")
        return ask(db, LOOK)[0]


@behaviour
def lock():
    with dial() as db, dial() as other:
        ask(db, "select pg_advisory_lock(4711)")
        db.commit()
        taken = ask(other, "select pg_try_advisory_lock(4711)")[0]
        return f"{taken} {ask(db, 'select pg_advisory_unlock(4711)')[0]}".lower()


@behaviour
def temporary():
    with dial() as db:
        ask(db, "create temp table own (n int)")
        db.commit()
        ask(db, "insert into own values (1), (2), (3)")
        db.commit()
        return ask(db, "select count(*) from own")[0]


run()
