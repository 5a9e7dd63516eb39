"""pg8000: a protocol of its own in plain Python, unnamed and named statements."""
import io
import threading
from contextlib import closing
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pg8000.native

from common import *


def dial(**more):
    url = urlsplit(URL)
    return closing(pg8000.native.Connection(
        url.username, host=url.hostname, port=url.port, database=url.path[1:], **more))


def ask(db, sql, **values):
    rows = db.run(sql, **values)
    return rows[0] if rows else None


def sqlstate(error):
    return error.args[0]["C"]


@behaviour
def connect():
    with dial(application_name="clients", startup_params={"options": "-c work_mem=3MB"}) as db:
        return ask(db, LOOK)[0]


@behaviour
def simple():
    with dial() as db:
        return " ".join(map(str, ask(db, "select 1, 'two'")))


@behaviour
def types():
    sent = (NUMBER, TEXT, None, DECIMAL, MOMENT, BYTES, DOCUMENT, NUMBERS, TEXTS)
    with dial() as db:
        sql = ("select cast(:a as int), cast(:b as text), cast(:c as int), cast(:d as numeric), "
               "cast(:e as timestamptz), cast(:f as bytea), cast(:g as jsonb), cast(:h as int[]), cast(:i as text[])")
        return same(sent, ask(db, sql, **dict(zip("abcdefghi", sent))))


@behaviour
def prepared():
    with dial() as db:
        statement = db.prepare("select cast(:n as int) + 1")
        total = sum(statement.run(n=n)[0][0] for n in range(20))
        statement.close()
        return total


@behaviour
def many():
    with dial() as db:
        db.run("drop table if exists many; create table many (n int)")
        for n in range(100):
            db.run("insert into many values (:n)", n=n)
        return "{} {}".format(*ask(db, "select count(*), sum(n) from many"))


@behaviour
def transaction():
    with dial() as db:
        db.run("drop table if exists kept; create table kept (n int)")
        for sql in ["begin", 1, "commit", "begin", 2, "rollback", "begin", 3, "savepoint s", 4, "rollback to s", "commit"]:
            if isinstance(sql, int):
                db.run("insert into kept values (:n)", n=sql)
            else:
                db.run(sql)
        return ask(db, "select string_agg(n::text, ',' order by n) from kept")[0]


@behaviour
def recovery():
    with dial() as db:
        heard = []
        db.run("begin")
        for sql in ["select 1/0", "select 2"]:
            try:
                db.run(sql)
            except pg8000.native.DatabaseError as error:
                heard.append(sqlstate(error))
        db.run("rollback")
        return " ".join([*heard, str(ask(db, "select 3")[0])])


@behaviour
def unique():
    with dial() as db:
        db.run("drop table if exists tokens; create table tokens (n int primary key); insert into tokens values (1)")
        try:
            db.run("insert into tokens values (:n)", n=1)
        except pg8000.native.DatabaseError as error:
            return f"{sqlstate(error)} {error.args[0]['n']}"


@behaviour
def notice():
    with dial() as db:
        db.run("do $$ begin raise notice 'heard %', 7; end $$")
        return db.notices[-1][b"M"].decode()


@behaviour
def altered():
    with dial() as db, dial() as other:
        other.run("drop table if exists altered; create table altered (a int); insert into altered values (1)")
        statement = db.prepare("select * from altered")
        before = len(statement.run()[0])
        other.run("alter table altered add b int")
        for _ in range(3):
            try:
                return f"{before} {len(statement.run()[0])}"
            except pg8000.native.DatabaseError as error:
                if sqlstate(error) != "0A000":
                    raise
                statement = db.prepare("select * from altered")


@behaviour
def copy():
    with dial() as db:
        db.run("drop table if exists copied; create table copied (n int, t text)")
        db.run("copy copied from stdin", stream=io.StringIO("".join(f"{n}\tü{n}\n" for n in range(1000))))
        out = io.StringIO()
        db.run("copy copied to stdout", stream=out)
        return f"{ask(db, 'select count(*) from copied')[0]} {out.getvalue().count('ü')}"


@behaviour
def cursor():
    with dial() as db:
        db.run("begin")
        db.run("declare on_server cursor for select n from generate_series(0, 999) n")
        numbers = []
        while rows := db.run("fetch 50 from on_server"):
            numbers += [row[0] for row in rows]
        db.run("commit")
        return f"{len(numbers)} {sum(numbers)}"


@behaviour
def stream():
    with dial() as db:
        rows = db.run(ROWS)
        return f"{len(rows)} {sum(len(row[1]) for row in rows)}"


@behaviour
def listen():
    with dial() as db, dial() as other:
        db.run("listen heard")
        other.run("notify heard, 'hello'")
        while not db.notifications:
            db.run("select 1")
        return db.notifications[-1][2]


@behaviour
def cancel():
    # It has no cancelling of its own; another connection ends the query.
    with dial() as db, dial() as other:

        def later():
            while ask(other, SLEEPERS)[0] == 0:
                pass
            other.run(SLEEPERS.replace("count(*)", "pg_cancel_backend(pid)"))

        thread = threading.Thread(target=later)
        thread.start()
        try:
            db.run("select pg_sleep(600)")
        except pg8000.native.DatabaseError as error:
            thread.join()
            return f"{'cancelled' if sqlstate(error) == '57014' else error} {ask(db, 'select 1')[0]}"


@behaviour
def timeout():
    with dial() as db:
        db.run("begin")
        db.run("set local statement_timeout = '200ms'")
        try:
            db.run("select pg_sleep(600)")
        except pg8000.native.DatabaseError as error:
            return sqlstate(error)


@behaviour
def reconnects():
    def once():
        with dial() as db:
            return ask(db, "select 1")[0]

    return sum(once() for _ in range(50))


@behaviour
def pool():
    # It has no pool: ten connections at the same time.
    def task(token):
        with dial() as db:
            said = [ask(db, "select :token || '-' || :n", token=str(token), n=str(n))[0] for n in range(50)]
        return sum(one == f"{token}-{n}" for n, one in enumerate(said))

    with ThreadPoolExecutor(10) as executor:
        return sum(executor.map(task, range(10)))


@behaviour
def timezone():
    with dial() as db:
        db.run("set timezone to 'Asia/Tokyo'")
        return ask(db, "show timezone")[0]


@behaviour
def reset():
    with dial(application_name="clients") as db:
        db.run("set application_name = 'other'; set work_mem = '1MB'")
        db.run("discard all")
        return ask(db, LOOK)[0]


@behaviour
def lock():
    with dial() as db, dial() as other:
        db.run("select pg_advisory_lock(4711)")
        taken = ask(other, "select pg_try_advisory_lock(4711)")[0]
        return f"{taken} {ask(db, 'select pg_advisory_unlock(4711)')[0]}".lower()


@behaviour
def temporary():
    with dial() as db:
        db.run("create temp table own (n int)")
        db.run("insert into own values (1), (2), (3)")
        return ask(db, "select count(*) from own")[0]


run()
