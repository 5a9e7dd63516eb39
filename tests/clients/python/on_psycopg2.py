"""psycopg 2: libpq's simple protocol, values written into the statements by the driver."""
import io
import select
import threading
from contextlib import closing
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import psycopg2.extras
import psycopg2.pool
from psycopg2 import errors

from common import *


def dial(**more):
    return closing(psycopg2.connect(URL, **more))


def ask(db, sql, values=None):
    with db.cursor() as cursor:
        cursor.execute(sql, values)
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
    values = (NUMBER, TEXT, None, DECIMAL, MOMENT, BYTES, psycopg2.extras.Json(DOCUMENT), NUMBERS, TEXTS)
    with dial() as db:
        row = list(ask(db, "select %s::int, %s::text, %s::int, %s::numeric, %s::timestamptz, %s::bytea, %s::jsonb, "
                           "%s::int[], %s::text[]", values))
        row[5] = bytes(row[5])
        return same(sent, row)


@behaviour
def many():
    with dial() as db, db.cursor() as cursor:
        cursor.execute("drop table if exists many; create table many (n int)")
        cursor.executemany("insert into many values (%s)", [(n,) for n in range(50)])
        psycopg2.extras.execute_values(cursor, "insert into many values %s", [(n,) for n in range(50, 100)])
        db.commit()
        return "%s %s" % ask(db, "select count(*), sum(n) from many")


@behaviour
def transaction():
    with dial() as db:
        ask(db, "drop table if exists kept; create table kept (n int)")
        ask(db, "insert into kept values (1)")
        db.commit()
        ask(db, "insert into kept values (2)")
        db.rollback()
        ask(db, "insert into kept values (3); savepoint s; insert into kept values (4); rollback to savepoint s")
        db.commit()
        return ask(db, "select string_agg(n::text, ',' order by n) from kept")[0]


@behaviour
def recovery():
    with dial() as db:
        heard = []
        for sql in ["select 1/0", "select 2"]:
            try:
                ask(db, sql)
            except psycopg2.Error as error:
                heard.append(error.pgcode)
        db.rollback()
        return " ".join([*heard, str(ask(db, "select 3")[0])])


@behaviour
def unique():
    with dial() as db:
        ask(db, "drop table if exists tokens; create table tokens (n int primary key); insert into tokens values (1)")
        try:
            ask(db, "insert into tokens values (1)")
        except errors.UniqueViolation as error:
            return f"{error.pgcode} {error.diag.constraint_name}"


@behaviour
def notice():
    with dial() as db:
        ask(db, "do $$ begin raise notice 'heard %', 7; end $$")
        return db.notices[-1].split("NOTICE:")[1].strip()


@behaviour
def copy():
    with dial() as db, db.cursor() as cursor:
        cursor.execute("drop table if exists copied; create table copied (n int, t text)")
        cursor.copy_expert("copy copied from stdin", io.StringIO("".join(f"{n}\tü{n}\n" for n in range(1000))))
        out = io.StringIO()
        cursor.copy_expert("copy copied to stdout", out)
        return f"{ask(db, 'select count(*) from copied')[0]} {out.getvalue().count('ü')}"


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
        cursor.execute(ROWS)
        rows = cursor.fetchall()
        return f"{len(rows)} {sum(len(row[1]) for row in rows)}"


@behaviour
def listen():
    with dial() as db, dial() as other:
        db.autocommit = other.autocommit = True
        ask(db, "listen heard")
        ask(other, "notify heard, 'hello'")
        while not db.notifies:
            if select.select([db], [], [], 30) == ([], [], []):
                return "nothing"
            db.poll()
        return db.notifies[0].payload


@behaviour
def cancel():
    with dial() as db, dial() as other:
        other.autocommit = True

        def later():
            while ask(other, SLEEPERS)[0] == 0:
                pass
            db.cancel()

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
        except psycopg2.Error as error:
            return error.pgcode


@behaviour
def reconnects():
    def once():
        with dial() as db:
            return ask(db, "select 1")[0]

    return sum(once() for _ in range(50))


@behaviour
def pool():
    pool = psycopg2.pool.ThreadedConnectionPool(1, 10, URL)

    def task(token):
        right = 0
        for n in range(50):
            db = pool.getconn()
            right += ask(db, "select %s || '-' || %s", (str(token), str(n)))[0] == f"{token}-{n}"
            db.rollback()
            pool.putconn(db)
        return right

    with ThreadPoolExecutor(10) as executor:
        right = sum(executor.map(task, range(10)))
    pool.closeall()
    return right


@behaviour
def timezone():
    with dial() as db:
        ask(db, "set timezone to 'Asia/Tokyo'")
        db.commit()
        return ask(db, "show timezone")[0]


@behaviour
def reset():
    with dial(application_name="clients") as db:
        ask(db, "set application_name = 'other'; set work_mem = '1MB'")
        db.reset()
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
