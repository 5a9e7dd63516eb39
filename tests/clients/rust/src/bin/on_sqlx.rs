//! sqlx: a protocol of its own, statements prepared by name and kept, a pool that looks before each use.

use std::time::Duration;

use anyhow::{Context, Result};
use clients::{LOOK, ROWS, SLEEPERS, TEXT, behaviour, bytes, document, same, url};
use futures_util::{StreamExt, TryStreamExt, future};
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgListener, PgPoolCopyExt, PgPoolOptions};
use sqlx::types::BigDecimal;
use sqlx::types::chrono::{DateTime, Utc};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, Row};

fn options() -> Result<PgConnectOptions> {
    Ok(url().parse()?)
}

async fn dial() -> Result<PgConnection> {
    Ok(options()?.connect().await?)
}

async fn ask(db: &mut PgConnection, sql: &'static str) -> Result<String> {
    Ok(sqlx::query_scalar(sql).fetch_one(db).await?)
}

fn code_of<T>(outcome: sqlx::Result<T>) -> String {
    match outcome {
        Ok(_) => "no error".to_owned(),
        Err(error) => {
            let code = error.as_database_error().and_then(|said| said.code().map(|code| code.into_owned()));
            code.unwrap_or_else(|| error.to_string())
        }
    }
}

async fn connect() -> Result<String> {
    let mut db = options()?.application_name("clients").options([("work_mem", "3MB")]).connect().await?;
    ask(&mut db, LOOK).await
}

async fn types() -> Result<String> {
    let (bytes, document) = (bytes(), document());
    let moment: DateTime<Utc> = "2026-11-26T18:30:01.234567Z".parse()?;
    let decimal: BigDecimal = "12345678901234567890.123456789".parse()?;
    let (numbers, texts) = (vec![1, 2, 3], ["a", "b'c", "d\"e", "ü,{}"].map(str::to_owned).to_vec());
    let sql =
        "select $1::int, $2::text, $3::int, $4::numeric, $5::timestamptz, $6::bytea, $7::jsonb, $8::int[], $9::text[]";
    let query = sqlx::query(sql).bind(42).bind(TEXT).bind(None::<i32>).bind(&decimal).bind(moment);
    let query = query.bind(&bytes).bind(&document).bind(&numbers).bind(&texts);
    let row = query.fetch_one(&mut dial().await?).await?;
    Ok(same(&[
        row.try_get::<i32, _>(0)? == 42,
        row.try_get::<&str, _>(1)? == TEXT,
        row.try_get::<Option<i32>, _>(2)?.is_none(),
        row.try_get::<BigDecimal, _>(3)? == decimal,
        row.try_get::<DateTime<Utc>, _>(4)? == moment,
        row.try_get::<&[u8], _>(5)? == bytes,
        row.try_get::<serde_json::Value, _>(6)? == document,
        row.try_get::<Vec<i32>, _>(7)? == numbers,
        row.try_get::<Vec<String>, _>(8)? == texts,
    ]))
}

async fn prepared() -> Result<String> {
    let mut db = dial().await?;
    let mut total = 0;
    for n in 0..20 {
        total += sqlx::query_scalar::<_, i32>("select $1::int + 1").bind(n).fetch_one(&mut db).await?;
    }
    Ok(total.to_string())
}

async fn many() -> Result<String> {
    let mut db = dial().await?;
    db.execute("drop table if exists many; create table many (n int)").await?;
    for n in 0..100 {
        sqlx::query("insert into many values ($1)").bind(n).execute(&mut db).await?;
    }
    ask(&mut db, "select count(*) || ' ' || sum(n) from many").await
}

async fn transaction() -> Result<String> {
    let mut db = dial().await?;
    db.execute("drop table if exists kept; create table kept (n int)").await?;
    let insert = |n: i32| sqlx::query("insert into kept values ($1)").bind(n);
    let mut one = db.begin().await?;
    insert(1).execute(&mut *one).await?;
    one.commit().await?;
    let mut two = db.begin().await?;
    insert(2).execute(&mut *two).await?;
    // Dropped, so that the driver rolls it back before the next use.
    drop(two);
    let mut three = db.begin().await?;
    insert(3).execute(&mut *three).await?;
    let mut four = three.begin().await?;
    insert(4).execute(&mut *four).await?;
    four.rollback().await?;
    three.commit().await?;
    ask(&mut db, "select string_agg(n::text, ',' order by n) from kept").await
}

async fn recovery() -> Result<String> {
    let mut db = dial().await?;
    let mut transaction = db.begin().await?;
    let one = code_of(sqlx::query("select 1/0").fetch_one(&mut *transaction).await);
    let two = code_of(sqlx::query("select $1::int").bind(2).fetch_one(&mut *transaction).await);
    transaction.rollback().await?;
    Ok(format!("{one} {two} {}", ask(&mut db, "select '3'").await?))
}

async fn unique() -> Result<String> {
    let mut db = dial().await?;
    db.execute("drop table if exists tokens; create table tokens (n int primary key); insert into tokens values (1)")
        .await?;
    let error = sqlx::query("insert into tokens values ($1)").bind(1).execute(&mut db).await.err();
    let error = error.context("it was refused")?;
    let said = error.as_database_error().context("the database said so")?.downcast_ref::<PgDatabaseError>();
    Ok(format!("{} {}", said.code(), said.constraint().unwrap_or_default()))
}

async fn altered() -> Result<String> {
    let (mut db, mut other) = (dial().await?, dial().await?);
    other.execute("drop table if exists altered; create table altered (a int); insert into altered values (1)").await?;
    let before = sqlx::query("select * from altered").fetch_one(&mut db).await?.len();
    other.execute("alter table altered add b int").await?;
    if code_of(sqlx::query("select * from altered").fetch_one(&mut db).await) == "0A000" {
        db.clear_cached_statements().await?;
    }
    Ok(format!("{before} {}", sqlx::query("select * from altered").fetch_one(&mut db).await?.len()))
}

async fn copy() -> Result<String> {
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options()?).await?;
    pool.execute("drop table if exists copied; create table copied (n int, t text)").await?;
    let mut into = pool.copy_in_raw("copy copied from stdin").await?;
    for n in 0..1000 {
        into.send(format!("{n}\tü{n}\n").into_bytes()).await?;
    }
    let count = into.finish().await?;
    let out: Vec<_> = pool.copy_out_raw("copy copied to stdout").await?.try_collect().await?;
    Ok(format!("{count} {}", String::from_utf8(out.concat())?.matches('ü').count()))
}

async fn cursor() -> Result<String> {
    let mut db = dial().await?;
    let mut transaction = db.begin().await?;
    transaction.execute("declare on_server cursor for select n from generate_series(0, 999) n").await?;
    let mut numbers: Vec<i32> = Vec::new();
    loop {
        let rows: Vec<i32> = sqlx::query_scalar("fetch 50 from on_server").fetch_all(&mut *transaction).await?;
        if rows.is_empty() {
            break;
        }
        numbers.extend(rows);
    }
    transaction.commit().await?;
    Ok(format!("{} {}", numbers.len(), numbers.iter().sum::<i32>()))
}

async fn streamed() -> Result<String> {
    let mut db = dial().await?;
    let mut rows = sqlx::query(ROWS).fetch(&mut db);
    let (mut count, mut length) = (0, 0);
    while let Some(row) = rows.next().await {
        (count, length) = (count + 1, length + row?.try_get::<&str, _>(1)?.len());
    }
    Ok(format!("{count} {length}"))
}

async fn listen() -> Result<String> {
    let mut listener = PgListener::connect(&url()).await?;
    listener.listen("heard").await?;
    dial().await?.execute("notify heard, 'hello'").await?;
    Ok(tokio::time::timeout(Duration::from_secs(30), listener.recv()).await??.payload().to_owned())
}

/// It has no cancelling of its own; another connection ends the query.
async fn cancel() -> Result<String> {
    let (mut db, mut other) = (dial().await?, dial().await?);
    let canceller = async {
        while sqlx::query_scalar::<_, i64>(SLEEPERS).fetch_one(&mut other).await? == 0 {}
        let cancel = "select pg_cancel_backend(pid) from pg_stat_activity where query like 'select pg_sleep(600)%'";
        other.execute(cancel).await?;
        anyhow::Ok(())
    };
    let (slept, cancelled) = future::join(db.execute("select pg_sleep(600)"), canceller).await;
    cancelled?;
    Ok(format!("{} {}", code_of(slept).replace("57014", "cancelled"), ask(&mut db, "select '1'").await?))
}

async fn timeout() -> Result<String> {
    let mut db = dial().await?;
    let mut transaction = db.begin().await?;
    transaction.execute("set local statement_timeout = '200ms'").await?;
    Ok(code_of(transaction.execute("select pg_sleep(600)").await))
}

async fn reconnects() -> Result<String> {
    let mut total = 0;
    for _ in 0..50 {
        let mut db = dial().await?;
        total += sqlx::query_scalar::<_, i32>("select 1").fetch_one(&mut db).await?;
        db.close().await?;
    }
    Ok(total.to_string())
}

async fn pool() -> Result<String> {
    let pool = PgPoolOptions::new().max_connections(10).connect_with(options()?).await?;
    let tasks = (0..10).map(|token| {
        let pool = &pool;
        async move {
            let mut right = 0;
            for n in 0..50 {
                let query = sqlx::query_scalar("select $1::text || '-' || $2::text");
                let said: String = query.bind(token.to_string()).bind(n.to_string()).fetch_one(pool).await?;
                right += usize::from(said == format!("{token}-{n}"));
            }
            anyhow::Ok(right)
        }
    });
    let right = future::try_join_all(tasks).await?.iter().sum::<usize>();
    pool.close().await;
    Ok(right.to_string())
}

async fn timezone() -> Result<String> {
    let mut db = dial().await?;
    db.execute("set timezone to 'Asia/Tokyo'").await?;
    ask(&mut db, "select current_setting('timezone')").await
}

async fn reset() -> Result<String> {
    let mut db = options()?.application_name("clients").connect().await?;
    db.execute("set application_name = 'other'; set work_mem = '1MB'").await?;
    db.execute("reset all").await?;
    ask(&mut db, LOOK).await
}

async fn lock() -> Result<String> {
    let (mut db, mut other) = (dial().await?, dial().await?);
    db.execute("select pg_advisory_lock(4711)").await?;
    let taken: bool = sqlx::query_scalar("select pg_try_advisory_lock(4711)").fetch_one(&mut other).await?;
    let released: bool = sqlx::query_scalar("select pg_advisory_unlock(4711)").fetch_one(&mut db).await?;
    Ok(format!("{taken} {released}"))
}

async fn temporary() -> Result<String> {
    let mut db = dial().await?;
    db.execute("create temp table own (n int)").await?;
    db.execute("insert into own values (1), (2), (3)").await?;
    Ok(sqlx::query_scalar::<_, i64>("select count(*) from own").fetch_one(&mut db).await?.to_string())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    behaviour("connect", connect()).await;
    behaviour("simple", async { ask(&mut dial().await?, "select 1 || ' two'").await }).await;
    behaviour("types", types()).await;
    behaviour("prepared", prepared()).await;
    behaviour("many", many()).await;
    behaviour("transaction", transaction()).await;
    behaviour("recovery", recovery()).await;
    behaviour("unique", unique()).await;
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
