// An application in Node. Each line on its input is a round of twenty sessions at one time.
import { createInterface } from "node:readline";

import { pool } from "./database.mjs";

const SESSIONS = 20;
const ORDERS = 10;

async function work(session) {
  let right = 0;
  for (let number = 0; number < ORDERS; number++) {
    const client = await pool.connect();
    try {
      await client.query("begin");
      const made = await client.query("insert into orders (session, number) values ($1, $2) returning id", [session, number]);
      const look = { name: "look", text: "select session, number from orders where id = $1", values: [made.rows[0].id] };
      const [found] = (await client.query(look)).rows;
      await client.query("commit");
      right += found.session === session && found.number === number;
    } finally {
      client.release();
    }
  }
  return right;
}

/** Has all sessions open at one time. */
async function open() {
  const clients = await Promise.all(Array.from({ length: SESSIONS }, () => pool.connect()));
  clients.forEach((client) => client.release());
}

await pool.query("create table orders (id bigserial primary key, session int, number int)");
console.log("ready");
for await (const _ of createInterface({ input: process.stdin })) {
  await open();
  const right = await Promise.all(Array.from({ length: SESSIONS }, (_, session) => work(session)));
  console.log(String(right.reduce((sum, number) => sum + number, 0)));
}
await pool.end();
