// node-postgres: a protocol of its own in plain JavaScript, named statements, cursors, COPY as streams, and its pool.
import { isDeepStrictEqual } from "node:util";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

import pg from "pg";
import { from, to } from "pg-copy-streams";
import Cursor from "pg-cursor";
import QueryStream from "pg-query-stream";

const URL = process.argv[2];
const LOOK = "select current_setting('application_name') || ' ' || current_setting('work_mem') as said";
const SLEEPERS = "from pg_stat_activity where state = 'active' and query like 'select pg_sleep(600)%'";
const behaviours = {};

async function within(use, more = {}) {
  const db = new pg.Client({ connectionString: URL, ...more });
  await db.connect();
  try {
    return await use(db, async (sql, values) => Object.values((await db.query(sql, values)).rows[0] ?? {}));
  } finally {
    await db.end();
  }
}

/** With two connections. */
const withinTwo = (use) => within((db, ask) => within((other, askOther) => use(db, ask, other, askOther)));

const codeOf = async (promise) => {
  try {
    return (await promise) && "no error";
  } catch (error) {
    return error.code ?? error.message;
  }
};

const total = (numbers) => numbers.reduce((sum, number) => sum + number, 0);

behaviours.connect = () =>
  within(async (_, ask) => (await ask(LOOK))[0], { application_name: "clients", options: "-c work_mem=3MB" });

behaviours.simple = () => within(async (_, ask) => (await ask("select 1 as one, 'two' as two")).join(" "));

behaviours.types = () =>
  within(async (_, ask) => {
    const document = { a: [1, null, "ü"], b: { c: true } };
    const bytes = Buffer.alloc(1 << 20, Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)));
    const sent = [42, "O'Grüße \"€\" \\ 😀 %s $1", null, "12345678901234567890.123456789",
      new Date("2026-11-26T18:30:01.234Z"), bytes, document, [1, 2, 3], ["a", "b'c", 'd"e', "ü,{}"]];
    const row = await ask(
      "select $1::int a, $2::text b, $3::int c, $4::numeric d, $5::timestamptz e, $6::bytea f, $7::jsonb g, " +
        "$8::int[] h, $9::text[] i", sent);
    const different = sent.findIndex((value, index) => !isDeepStrictEqual(value, row[index]));
    return different < 0 ? `${sent.length} values the same` : `value ${different} came back as ${row[different]}`;
  });

behaviours.prepared = () =>
  within(async (db) => {
    const numbers = [];
    for (let n = 0; n < 20; n++) {
      const { rows } = await db.query({ name: "plus one", text: "select $1::int + 1 as n", values: [n] });
      numbers.push(rows[0].n);
    }
    return total(numbers);
  });

// It has no batches; queries that were not waited for are queued, one round trip each.
behaviours.many = () =>
  within(async (db, ask) => {
    await db.query("drop table if exists many; create table many (n int)");
    await Promise.all(Array.from({ length: 100 }, (_, n) => db.query("insert into many values ($1)", [n])));
    return (await ask("select count(*), sum(n) from many")).join(" ");
  });

behaviours.transaction = () =>
  within(async (db, ask) => {
    await db.query("drop table if exists kept; create table kept (n int)");
    for (const step of ["begin", 1, "commit", "begin", 2, "rollback", "begin", 3, "savepoint s", 4, "rollback to s", "commit"]) {
      await (typeof step === "number" ? db.query("insert into kept values ($1)", [step]) : db.query(step));
    }
    return (await ask("select string_agg(n::text, ',' order by n) from kept"))[0];
  });

behaviours.recovery = () =>
  within(async (db, ask) => {
    await db.query("begin");
    const heard = [await codeOf(db.query("select 1/0")), await codeOf(db.query("select $1::int", [2]))];
    await db.query("rollback");
    return [...heard, ...(await ask("select 3 as n"))].join(" ");
  });

behaviours.unique = () =>
  within(async (db) => {
    await db.query("drop table if exists tokens; create table tokens (n int primary key); insert into tokens values (1)");
    return db.query("insert into tokens values ($1)", [1]).catch((error) => `${error.code} ${error.constraint}`);
  });

behaviours.notice = () =>
  within(async (db) => {
    const heard = new Promise((resolve) => db.on("notice", (said) => resolve(said.message)));
    await db.query("do $$ begin raise notice 'heard %', 7; end $$");
    return heard;
  });

behaviours.altered = () =>
  withinTwo(async (db, _, other) => {
    await other.query("drop table if exists altered; create table altered (a int); insert into altered values (1)");
    const columns = async (name) => (await db.query({ name, text: "select * from altered" })).fields.length;
    const before = await columns("one");
    await other.query("alter table altered add b int");
    // It keeps a named statement for as long as the connection lives, and so does the error of its plan.
    return `${before} ${(await codeOf(columns("one"))) === "0A000" ? await columns("another") : await columns("one")}`;
  });

behaviours.copy = () =>
  within(async (db, ask) => {
    await db.query("drop table if exists copied; create table copied (n int, t text)");
    const lines = Array.from({ length: 1000 }, (_, n) => `${n}\tü${n}\n`);
    await pipeline(Readable.from(lines), db.query(from("copy copied from stdin")));
    const out = [];
    for await (const chunk of db.query(to("copy copied to stdout"))) out.push(chunk);
    return `${await ask("select count(*) from copied")} ${Buffer.concat(out).toString().split("ü").length - 1}`;
  });

behaviours.cursor = () =>
  within(async (db) => {
    await db.query("begin");
    const cursor = db.query(new Cursor("select n from generate_series(0, 999) n"));
    const numbers = [];
    for (let rows = await cursor.read(50); rows.length > 0; rows = await cursor.read(50)) {
      numbers.push(...rows.map((row) => row.n));
    }
    await cursor.close();
    await db.query("commit");
    return `${numbers.length} ${total(numbers)}`;
  });

behaviours.stream = () =>
  within(async (db) => {
    const lengths = [];
    const rows = db.query(new QueryStream("select n, repeat('x', 100) as x from generate_series(0, 19999) n"));
    for await (const row of rows) lengths.push(row.x.length);
    return `${lengths.length} ${total(lengths)}`;
  });

behaviours.listen = () =>
  withinTwo(async (db, _, other) => {
    const heard = new Promise((resolve) => db.on("notification", (said) => resolve(said.payload)));
    await db.query("listen heard");
    await other.query("notify heard, 'hello'");
    return heard;
  });

// It has no cancelling of its own; another connection ends the query.
behaviours.cancel = () =>
  withinTwo(async (db, ask, other, askOther) => {
    const sleeping = codeOf(db.query("select pg_sleep(600)"));
    while ((await askOther(`select count(*) ${SLEEPERS}`))[0] === "0");
    await other.query(`select pg_cancel_backend(pid) ${SLEEPERS}`);
    const code = await sleeping;
    return `${code === "57014" ? "cancelled" : code} ${await ask("select 1 as n")}`;
  });

behaviours.timeout = () =>
  within(async (db) => {
    await db.query("begin");
    await db.query("set local statement_timeout = '200ms'");
    return codeOf(db.query("select pg_sleep(600)"));
  });

behaviours.reconnects = async () => {
  const numbers = [];
  for (let n = 0; n < 50; n++) numbers.push(...(await within((_, ask) => ask("select 1 as n"))));
  return total(numbers);
};

behaviours.pool = async () => {
  const pool = new pg.Pool({ connectionString: URL, max: 10 });
  const task = async (token) => {
    let right = 0;
    for (let n = 0; n < 50; n++) {
      const { rows } = await pool.query("select $1 || '-' || $2 as said", [String(token), String(n)]);
      right += rows[0].said === `${token}-${n}` ? 1 : 0;
    }
    return right;
  };
  const right = await Promise.all(Array.from({ length: 10 }, (_, token) => task(token)));
  await pool.end();
  return total(right);
};

behaviours.timezone = () =>
  within(async (db, ask) => {
    await db.query("set timezone to 'Asia/Tokyo'");
    return (await ask("show timezone"))[0];
  });

behaviours.reset = () =>
  within(async (db, ask) => {
    await db.query("set application_name = 'other'; set work_mem = '1MB'");
    await db.query("discard all");
    return (await ask(LOOK))[0];
  }, { application_name: "clients" });

behaviours.lock = () =>
  withinTwo(async (_, ask, __, askOther) => {
    await ask("select pg_advisory_lock(4711)");
    const taken = await askOther("select pg_try_advisory_lock(4711)");
    return `${taken} ${await ask("select pg_advisory_unlock(4711)")}`;
  });

behaviours.temporary = () =>
  within(async (db, ask) => {
    await db.query("create temp table own (n int)");
    await db.query("insert into own values (1), (2), (3)");
    return (await ask("select count(*) from own"))[0];
  });

for (const [name, behave] of Object.entries(behaviours)) {
  const outcome = await behave().catch((error) => `${error.code ?? error.name}: ${error.message}`);
  console.log(`${name}\t${outcome}`);
}
