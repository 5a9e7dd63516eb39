//! tokio-postgres: a protocol of its own, every statement prepared by name and closed when it is dropped, pipelines.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use clients::{LOOK, ROWS, SLEEPERS, TEXT, TYPES, behaviour, bytes, document, same, url};
use futures_util::{SinkExt, StreamExt, TryStreamExt, future, pin_mut, stream};
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, Error, NoTls};

type Said = tokio::sync::mpsc::UnboundedReceiver<AsyncMessage>;

async fn dial_as(change: impl FnOnce(&mut Config)) -> Result<(Client, Said)> {
    let mut config: Config = url().parse()?;
    change(&mut config);
    let (client, mut connection) = config.connect(NoTls).await?;
    let (tell, said) = tokio::sync::mpsc::unbounded_channel();
    let mut messages = stream::poll_fn(move |cx| connection.poll_message(cx));
    tokio::spawn(async move {
        while let Some(Ok(message)) = messages.next().await {
            // Nobody may listen.
            let _ = tell.send(message);
        }
    });
    Ok((client, said))
}

async fn dial() -> Result<Client> {
    Ok(dial_as(|_| {}).await?.0)
}

async fn ask(db: &Client, sql: &str) -> Result<String> {
    Ok(db.query_one(sql, &[]).await?.try_get(0)?)
}

async fn number(db: &Client, sql: &str) -> Result<i64> {
    Ok(db.query_one(sql, &[]).await?.try_get(0)?)
}

fn code_of<T>(outcome: Result<T, Error>) -> String {
    match outcome {
        Ok(_) => "no error".to_owned(),
        Err(error) => error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned()),
    }
}

async fn connect() -> Result<String> {
    let change = |config: &mut Config| {
        config.application_name("clients").options("-c work_mem=3MB");
    };
    ask(&dial_as(change).await?.0, LOOK).await
}

async fn types() -> Result<String> {
    let (bytes, document) = (bytes(), document());
    let moment: DateTime<Utc> = "2026-11-26T18:30:01.234567Z".parse()?;
    let (numbers, texts) = (vec![1, 2, 3], vec!["a", "b'c", "d\"e", "ü,{}"]);
    let sent: [&(dyn ToSql + Sync); 8] = [&42, &TEXT, &None::<i32>, &moment, &bytes, &document, &numbers, &texts];
    let row = dial().await?.query_one(TYPES, &sent).await?;
    Ok(same(&[
        row.try_get::<_, i32>(0)? == 42,
        row.try_get::<_, &str>(1)? == TEXT,
        row.try_get::<_, Option<i32>>(2)?.is_none(),
        row.try_get::<_, DateTime<Utc>>(3)? == moment,
        row.try_get::<_, &[u8]>(4)? == bytes,
        row.try_get::<_, serde_json::Value>(5)? == document,
        row.try_get::<_, Vec<i32>>(6)? == numbers,
        row.try_get::<_, Vec<&str>>(7)? == texts,
    ]))
}

/// Types that the driver must ask the database about.
async fn looked_up() -> Result<String> {
    let db = dial().await?;
    db.batch_execute("drop type if exists mood; create type mood as enum ('glad', 'sad')").await?;
    let statement = db.prepare("select 'glad'::mood, $1::mood[]").await?;
    Ok(format!("{} {}", statement.columns()[0].type_(), statement.params()[0]))
}

async fn prepared() -> Result<String> {
    let db = dial().await?;
    let statement = db.prepare("select $1::int + 1").await?;
    let mut total = 0;
    for n in 0..20 {
        total += db.query_one(&statement, &[&n]).await?.try_get::<_, i32>(0)?;
    }
    Ok(total.to_string())
}

/// A hundred at the same time, which the driver sends as a pipeline.
async fn many() -> Result<String> {
    let db = dial().await?;
    db.batch_execute("drop table if exists many; create table many (n int)").await?;
    let statement = db.prepare("insert into many values ($1)").await?;
    let inserts = (0..100).map(|n| {
        let (db, statement) = (&db, &statement);
        async move { db.execute(statement, &[&n]).await }
    });
    future::try_join_all(inserts).await?;
    ask(&db, "select count(*) || ' ' || sum(n) from many").await
}

async fn transaction() -> Result<String> {
    let mut db = dial().await?;
    db.batch_execute("drop table if exists kept; create table kept (n int)").await?;
    let insert = "insert into kept values ($1)";
    let one = db.transaction().await?;
    one.execute(insert, &[&1]).await?;
    one.commit().await?;
    let two = db.transaction().await?;
    two.execute(insert, &[&2]).await?;
    two.rollback().await?;
    let mut three = db.transaction().await?;
    three.execute(insert, &[&3]).await?;
    let four = three.savepoint("s").await?;
    four.execute(insert, &[&4]).await?;
    four.rollback().await?;
    three.commit().await?;
    ask(&db, "select string_agg(n::text, ',' order by n) from kept").await
}

async fn recovery() -> Result<String> {
    let mut db = dial().await?;
    let transaction = db.transaction().await?;
    let one = code_of(transaction.query("select 1/0", &[]).await);
    let two = code_of(transaction.query("select $1::int", &[&2]).await);
    transaction.rollback().await?;
    Ok(format!("{one} {two} {}", ask(&db, "select '3'").await?))
}

async fn unique() -> Result<String> {
    let db = dial().await?;
    db.batch_execute("drop table if exists tokens; create table tokens (n int primary key)").await?;
    db.execute("insert into tokens values ($1)", &[&1]).await?;
    let error = db.execute("insert into tokens values ($1)", &[&1]).await.err().context("it was refused")?;
    let said = error.as_db_error().context("the database said so")?;
    Ok(format!("{} {}", said.code().code(), said.constraint().unwrap_or_default()))
}

async fn notice() -> Result<String> {
    let (db, mut said) = dial_as(|_| {}).await?;
    db.batch_execute("do $$ begin raise notice 'heard %', 7; end $$").await?;
    match said.recv().await {
        Some(AsyncMessage::Notice(notice)) => Ok(notice.message().to_owned()),
        _ => Ok("nothing".to_owned()),
    }
}

async fn altered() -> Result<String> {
    let (db, other) = (dial().await?, dial().await?);
    let table = "drop table if exists altered; create table altered (a int); insert into altered values (1)";
    other.batch_execute(table).await?;
    let mut statement = db.prepare("select * from altered").await?;
    let before = db.query_one(&statement, &[]).await?.len();
    other.batch_execute("alter table altered add b int").await?;
    if code_of(db.query_one(&statement, &[]).await) == "0A000" {
        statement = db.prepare("select * from altered").await?;
    }
    Ok(format!("{before} {}", db.query_one(&statement, &[]).await?.len()))
}

async fn copy() -> Result<String> {
    let db = dial().await?;
    db.batch_execute("drop table if exists copied; create table copied (n int, t text)").await?;
    let into = db.copy_in("copy copied from stdin").await?;
    pin_mut!(into);
    for n in 0..1000 {
        into.send(Bytes::from(format!("{n}\tü{n}\n"))).await?;
    }
    let count = into.finish().await?;
    let out: Vec<Bytes> = db.copy_out("copy copied to stdout").await?.try_collect().await?;
    Ok(format!("{count} {}", String::from_utf8(out.concat())?.matches('ü').count()))
}

async fn cursor() -> Result<String> {
    let mut db = dial().await?;
    let transaction = db.transaction().await?;
    let portal = transaction.bind("select n from generate_series(0, 999) n", &[]).await?;
    let (mut count, mut sum) = (0, 0);
    loop {
        let rows = transaction.query_portal(&portal, 50).await?;
        for row in &rows {
            (count, sum) = (count + 1, sum + row.try_get::<_, i32>(0)?);
        }
        if rows.is_empty() {
            break;
        }
    }
    transaction.commit().await?;
    Ok(format!("{count} {sum}"))
}

async fn streamed() -> Result<String> {
    let db = dial().await?;
    let rows = db.query_raw(ROWS, std::iter::empty::<i32>()).await?;
    pin_mut!(rows);
    let (mut count, mut length) = (0, 0);
    while let Some(row) = rows.try_next().await? {
        (count, length) = (count + 1, length + row.try_get::<_, &str>(1)?.len());
    }
    Ok(format!("{count} {length}"))
}

async fn listen() -> Result<String> {
    let ((db, mut said), other) = (dial_as(|_| {}).await?, dial().await?);
    db.batch_execute("listen heard").await?;
    other.batch_execute("notify heard, 'hello'").await?;
    match tokio::time::timeout(Duration::from_secs(30), said.recv()).await? {
        Some(AsyncMessage::Notification(heard)) => Ok(heard.payload().to_owned()),
        _ => Ok("nothing".to_owned()),
    }
}

async fn cancel() -> Result<String> {
    let (db, other) = (dial().await?, dial().await?);
    let token = db.cancel_token();
    let canceller = async {
        while number(&other, SLEEPERS).await? == 0 {}
        token.cancel_query(NoTls).await?;
        anyhow::Ok(())
    };
    let (slept, cancelled) = future::join(db.batch_execute("select pg_sleep(600)"), canceller).await;
    cancelled?;
    Ok(format!("{} {}", code_of(slept).replace("57014", "cancelled"), ask(&db, "select '1'").await?))
}

async fn timeout() -> Result<String> {
    let db = dial().await?;
    db.batch_execute("begin; set local statement_timeout = '200ms'").await?;
    Ok(code_of(db.batch_execute("select pg_sleep(600)").await))
}

async fn reconnects() -> Result<String> {
    let mut total = 0;
    for _ in 0..50 {
        total += number(&dial().await?, "select 1::bigint").await?;
    }
    Ok(total.to_string())
}

/// It has no pool: ten connections at the same time.
async fn pool() -> Result<String> {
    let tasks = (0..10).map(|token| async move {
        let db = Arc::new(dial().await?);
        let mut right = 0;
        for n in 0..50 {
            let values: [&(dyn ToSql + Sync); 2] = [&token.to_string(), &n.to_string()];
            let row = db.query_one("select $1::text || '-' || $2::text", &values).await?;
            right += usize::from(row.try_get::<_, &str>(0)? == format!("{token}-{n}"));
        }
        anyhow::Ok(right)
    });
    Ok(future::try_join_all(tasks).await?.iter().sum::<usize>().to_string())
}

async fn timezone() -> Result<String> {
    let db = dial().await?;
    db.batch_execute("set timezone to 'Asia/Tokyo'").await?;
    ask(&db, "show timezone").await
}

async fn reset() -> Result<String> {
    let (db, _) = dial_as(|config| {
        config.application_name("clients");
    })
    .await?;
    db.batch_execute("set application_name = 'other'; set work_mem = '1MB'").await?;
    db.batch_execute("discard all").await?;
    ask(&db, LOOK).await
}

async fn lock() -> Result<String> {
    let (db, other) = (dial().await?, dial().await?);
    db.batch_execute("select pg_advisory_lock(4711)").await?;
    let taken: bool = other.query_one("select pg_try_advisory_lock(4711)", &[]).await?.try_get(0)?;
    let released: bool = db.query_one("select pg_advisory_unlock(4711)", &[]).await?.try_get(0)?;
    Ok(format!("{taken} {released}"))
}

async fn temporary() -> Result<String> {
    let db = dial().await?;
    db.batch_execute("create temp table own (n int)").await?;
    db.batch_execute("insert into own values (1), (2), (3)").await?;
    Ok(number(&db, "select count(*) from own").await?.to_string())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    behaviour("connect", connect()).await;
    behaviour("simple", async { ask(&dial().await?, "select 1 || ' two'").await }).await;
    behaviour("types", types()).await;
    behaviour("looked_up", looked_up()).await;
    behaviour("prepared", prepared()).await;
    behaviour("many", many()).await;
    behaviour("transaction", transaction()).await;
    behaviour("recovery", recovery()).await;
    behaviour("unique", unique()).await;
    behaviour("notice", notice()).await;
    behaviour("altered", altered()).await;
    behaviour("copy", copy()).await;
    behaviour("cursor", cursor()).await;
    behaviour("stream", streamed()).await;
    behaviour("listen", listen()).await;
    behaviour("cancel", cancel()).await;
    behaviour("timeout", timeout()).await;
    behaviour("reconnects", reconnects()).await;
    behaviour("pool", pool()).await;
    behaviour("timezone", timezone()).await;
    behaviour("reset", reset()).await;
    behaviour("lock", lock()).await;
    behaviour("temporary", temporary()).await;
}
