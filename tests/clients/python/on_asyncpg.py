"""asyncpg: a protocol of its own, every statement prepared and kept, types looked up by queries, a pool that resets."""
import asyncio
import io
import json
from contextlib import asynccontextmanager

import asyncpg

from common import *


@asynccontextmanager
async def dial(**more):
    db = await asyncpg.connect(URL, **more)
    try:
        yield db
    finally:
        await db.close()


@behaviour
async def connect():
    async with dial(server_settings={"application_name": "clients", "work_mem": "3MB"}) as db:
        return await db.fetchval(LOOK)


@behaviour
async def simple():
    async with dial() as db:
        return " ".join(map(str, await db.fetchrow("select 1, 'two'")))


@behaviour
async def types():
    sent = (NUMBER, TEXT, None, DECIMAL, MOMENT, BYTES, DOCUMENT, NUMBERS, TEXTS)
    async with dial() as db:
        await db.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
        sql = ("select $1::int, $2::text, $3::int, $4::numeric, $5::timestamptz, $6::bytea, $7::jsonb, $8::int[], "
               "$9::text[]")
        return same(sent, await db.fetchrow(sql, *sent))


@behaviour
async def looked_up():
    async with dial() as db:
        await db.execute("drop type if exists mood; create type mood as enum ('glad', 'sad')")
        return ",".join(await db.fetchval("select array['glad', 'sad']::mood[]"))


@behaviour
async def prepared():
    async with dial() as db:
        statement = await db.prepare("select $1::int + 1")
        return sum([await statement.fetchval(n) for n in range(20)])


@behaviour
async def many():
    async with dial() as db:
        await db.execute("drop table if exists many; create table many (n int)")
        await db.executemany("insert into many values ($1)", [(n,) for n in range(100)])
        return "{} {}".format(*await db.fetchrow("select count(*), sum(n) from many"))


class Undone(Exception):
    """Ends a transaction by a rollback."""


@behaviour
async def transaction():
    async with dial() as db:
        await db.execute("drop table if exists kept; create table kept (n int)")

        async def keep(n, undone=False):
            await db.execute("insert into kept values ($1)", n)
            if undone:
                raise Undone

        async with db.transaction():
            await keep(1)
        try:
            async with db.transaction():
                await keep(2, undone=True)
        except Undone:
            pass
        async with db.transaction():
            await keep(3)
            try:
                async with db.transaction():
                    await keep(4, undone=True)
            except Undone:
                pass
        return await db.fetchval("select string_agg(n::text, ',' order by n) from kept")


@behaviour
async def recovery():
    async with dial() as db:
        heard, transaction = [], db.transaction()
        await transaction.start()
        for sql in ["select 1/0", "select 2"]:
            try:
                await db.fetchval(sql)
            except asyncpg.PostgresError as error:
                heard.append(error.sqlstate)
        await transaction.rollback()
        return " ".join([*heard, str(await db.fetchval("select 3"))])


@behaviour
async def unique():
    async with dial() as db:
        await db.execute("drop table if exists tokens; create table tokens (n int primary key)")
        await db.execute("insert into tokens values ($1)", 1)
        try:
            await db.execute("insert into tokens values ($1)", 1)
        except asyncpg.UniqueViolationError as error:
            return f"{error.sqlstate} {error.constraint_name}"


@behaviour
async def notice():
    async with dial() as db:
        heard = asyncio.get_running_loop().create_future()
        db.add_log_listener(lambda _, said: heard.set_result(said.message))
        await db.execute("do $$ begin raise notice 'heard %', 7; end $$")
        return await asyncio.wait_for(heard, 30)


@behaviour
async def altered():
    async with dial() as db, dial() as other:
        await other.execute("drop table if exists altered; create table altered (a int); insert into altered values (1)")
        before = len(await db.fetchrow("select * from altered"))
        await other.execute("alter table altered add b int")
        return f"{before} {len(await db.fetchrow('select * from altered'))}"


@behaviour
async def copy():
    async with dial() as db:
        await db.execute("drop table if exists copied; create table copied (n int, t text)")
        await db.copy_records_to_table("copied", records=[(n, f"ü{n}") for n in range(1000)])
        out = io.BytesIO()
        await db.copy_from_query("select t from copied", output=out)
        return f"{await db.fetchval('select count(*) from copied')} {out.getvalue().decode().count('ü')}"


@behaviour
async def cursor():
    async with dial() as db, db.transaction():
        numbers = [row[0] async for row in db.cursor("select n from generate_series(0, 999) n", prefetch=50)]
        return f"{len(numbers)} {sum(numbers)}"


@behaviour
async def stream():
    async with dial() as db:
        rows = await db.fetch(ROWS)
        return f"{len(rows)} {sum(len(row[1]) for row in rows)}"


@behaviour
async def listen():
    async with dial() as db, dial() as other:
        heard = asyncio.get_running_loop().create_future()
        await db.add_listener("heard", lambda *said: heard.set_result(said[3]))
        await other.execute("notify heard, 'hello'")
        return await asyncio.wait_for(heard, 30)


@behaviour
async def cancel():
    async with dial() as db, dial() as other:
        sleeping = asyncio.create_task(db.execute("select pg_sleep(600)"))
        while await other.fetchval(SLEEPERS) == 0:
            pass
        sleeping.cancel()
        try:
            await sleeping
        except asyncio.CancelledError:
            return f"cancelled {await db.fetchval('select 1')}"


@behaviour
async def timeout():
    async with dial() as db, db.transaction():
        await db.execute("set local statement_timeout = '200ms'")
        try:
            await db.execute("select pg_sleep(600)")
        except asyncpg.PostgresError as error:
            return error.sqlstate


@behaviour
async def reconnects():
    total = 0
    for _ in range(50):
        async with dial() as db:
            total += await db.fetchval("select 1")
    return total


@behaviour
async def pool():
    async with asyncpg.create_pool(URL, min_size=1, max_size=10) as pool:

        async def task(token):
            right = 0
            for n in range(50):
                said = await pool.fetchval("select $1 || '-' || $2", str(token), str(n))
                right += said == f"{token}-{n}"
            return right

        return sum(await asyncio.gather(*map(task, range(10))))


@behaviour
async def timezone():
    async with dial() as db:
        await db.execute("set timezone to 'Asia/Tokyo'")
        return await db.fetchval("show timezone")


@behaviour
async def reset():
    async with dial(server_settings={"application_name": "clients"}) as db:
        await db.execute("set application_name = 'other'; set work_mem = '1MB'")
        await db.reset()
        return await db.fetchval(LOOK)


@behaviour
async def lock():
    async with dial() as db, dial() as other:
        await db.execute("select pg_advisory_lock(4711)")
        taken = await other.fetchval("select pg_try_advisory_lock(4711)")
        return f"{taken} {await db.fetchval('select pg_advisory_unlock(4711)')}".lower()


@behaviour
async def temporary():
    async with dial() as db:
        await db.execute("create temp table own (n int)")
        await db.execute("insert into own values (1), (2), (3)")
        return await db.fetchval("select count(*) from own")


asyncio.run(run_async())
