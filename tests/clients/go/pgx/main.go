// pgx: a protocol of its own; each statement is prepared and kept; batches, pipelines, and a pool.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

const look = "select current_setting('application_name') || ' ' || current_setting('work_mem')"
const sleepers = "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep(600)%'"

var url = os.Args[1]
var ctx = context.Background()

// check ends a behaviour with an error as its outcome.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

// codeOf is the SQLSTATE of an error.
func codeOf(err error) string {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return said.Code
	}
	return fmt.Sprint(err)
}

// within runs use with a connection, of which settings may be changed before.
func within(use func(db *pgx.Conn) string, change ...func(*pgx.ConnConfig)) string {
	config, err := pgx.ParseConfig(url)
	check(err)
	for _, change := range change {
		change(config)
	}
	db, err := pgx.ConnectConfig(ctx, config)
	check(err)
	defer db.Close(ctx)
	return use(db)
}

// withinTwo does the same with two connections.
func withinTwo(use func(db, other *pgx.Conn) string) string {
	return within(func(db *pgx.Conn) string { return within(func(other *pgx.Conn) string { return use(db, other) }) })
}

func run(db *pgx.Conn, statements ...string) {
	for _, sql := range statements {
		_, err := db.Exec(ctx, sql)
		check(err)
	}
}

func ask[T any](db interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}, sql string, values ...any) (said T) {
	check(db.QueryRow(ctx, sql, values...).Scan(&said))
	return said
}

func named(db *pgx.ConnConfig) { db.RuntimeParams["application_name"] = "clients" }

func special(db *pgx.ConnConfig) { db.RuntimeParams["options"] = "-c work_mem=3MB" }

func types(db *pgx.Conn) string {
	number, text := int32(42), "O'Grüße \"€\" \\ 😀 %s $1"
	var nothing *int32
	var decimal pgtype.Numeric
	check(decimal.Scan("12345678901234567890.123456789"))
	moment := time.Date(2026, 11, 26, 18, 30, 1, 234567000, time.UTC)
	data := bytes.Repeat([]byte{0, 1, 39, 92, 128, 255, 10, 13}, 1<<17)
	document := map[string]any{"a": []any{float64(1), nil, "ü"}, "b": map[string]any{"c": true}}
	sent := []any{number, text, nothing, decimal, moment, data, document, []int32{1, 2, 3}, []string{"a", "b'c", "d\"e", "ü,{}"}}
	row := make([]any, len(sent))
	for index, value := range sent {
		row[index] = reflect.New(reflect.TypeOf(value)).Interface()
	}
	const sql = "select $1::int, $2::text, $3::int, $4::numeric, $5::timestamptz, $6::bytea, $7::jsonb, $8::int[], $9::text[]"
	check(db.QueryRow(ctx, sql, sent...).Scan(row...))
	for index, value := range sent {
		received := reflect.ValueOf(row[index]).Elem().Interface()
		if moment, ok := received.(time.Time); ok {
			received = moment.UTC()
		}
		if !reflect.DeepEqual(value, received) {
			return fmt.Sprintf("value %d came back as %.80v", index, received)
		}
	}
	return fmt.Sprintf("%d values the same", len(sent))
}

// kept asks n times with the same statement in one of the driver's ways.
func kept(mode pgx.QueryExecMode) int {
	var total int
	within(func(db *pgx.Conn) string {
		for n := range 20 {
			total += ask[int](db, "select $1::int + 1", mode, n)
		}
		return ""
	})
	return total
}

func many(db *pgx.Conn) string {
	run(db, "drop table if exists many", "create table many (n int)")
	batch := &pgx.Batch{}
	for n := range 100 {
		batch.Queue("insert into many values ($1)", n)
	}
	check(db.SendBatch(ctx, batch).Close())
	return ask[string](db, "select count(*) || ' ' || sum(n) from many")
}

func transaction(db *pgx.Conn) string {
	run(db, "drop table if exists kept", "create table kept (n int)")
	undone := errors.New("undone")
	keep := func(in pgx.Tx, n int) {
		_, err := in.Exec(ctx, "insert into kept values ($1)", n)
		check(err)
	}
	check(pgx.BeginFunc(ctx, db, func(in pgx.Tx) error { keep(in, 1); return nil }))
	_ = pgx.BeginFunc(ctx, db, func(in pgx.Tx) error { keep(in, 2); return undone })
	check(pgx.BeginFunc(ctx, db, func(in pgx.Tx) error {
		keep(in, 3)
		_ = pgx.BeginFunc(ctx, in, func(in pgx.Tx) error { keep(in, 4); return undone })
		return nil
	}))
	return ask[string](db, "select string_agg(n::text, ',' order by n) from kept")
}

func recovery(db *pgx.Conn) string {
	in, err := db.Begin(ctx)
	check(err)
	_, one := in.Exec(ctx, "select 1/0")
	_, two := in.Exec(ctx, "select $1::int", 2)
	check(in.Rollback(ctx))
	return fmt.Sprint(codeOf(one), " ", codeOf(two), " ", ask[int](db, "select 3"))
}

func unique(db *pgx.Conn) string {
	run(db, "drop table if exists tokens", "create table tokens (n int primary key)", "insert into tokens values (1)")
	_, err := db.Exec(ctx, "insert into tokens values ($1)", 1)
	var said *pgconn.PgError
	errors.As(err, &said)
	return said.Code + " " + said.ConstraintName
}

func notice() string {
	var heard string
	hear := func(config *pgx.ConnConfig) {
		config.OnNotice = func(_ *pgconn.PgConn, said *pgconn.Notice) { heard = said.Message }
	}
	return within(func(db *pgx.Conn) string { run(db, "do $$ begin raise notice 'heard %', 7; end $$"); return heard }, hear)
}

func altered(db, other *pgx.Conn) string {
	run(other, "drop table if exists altered", "create table altered (a int)")
	columns := func() int {
		rows, err := db.Query(ctx, "select * from altered")
		check(err)
		rows.Close()
		if rows.Err() != nil {
			return 0
		}
		return len(rows.FieldDescriptions())
	}
	before, after := columns(), 0
	run(other, "alter table altered add b int")
	for range 3 {
		// The driver forgets its statement when PostgreSQL says that the plan does not fit any more.
		if after = columns(); after != 0 {
			break
		}
	}
	return fmt.Sprint(before, " ", after)
}

func copies(db *pgx.Conn) string {
	run(db, "drop table if exists copied", "create table copied (n int, t text)")
	rows := make([][]any, 1000)
	for n := range rows {
		rows[n] = []any{n, fmt.Sprint("ü", n)}
	}
	count, err := db.CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"n", "t"}, pgx.CopyFromRows(rows))
	check(err)
	var out bytes.Buffer
	_, err = db.PgConn().CopyTo(ctx, &out, "copy copied to stdout")
	check(err)
	return fmt.Sprint(count, " ", strings.Count(out.String(), "ü"))
}

func cursor(db *pgx.Conn) string {
	count, sum := 0, 0
	in, err := db.Begin(ctx)
	check(err)
	_, err = in.Exec(ctx, "declare on_server cursor for select n from generate_series(0, 999) n")
	check(err)
	for done := false; !done; {
		rows, err := in.Query(ctx, "fetch 50 from on_server")
		check(err)
		numbers, err := pgx.CollectRows(rows, pgx.RowTo[int])
		check(err)
		for _, n := range numbers {
			count, sum = count+1, sum+n
		}
		done = len(numbers) == 0
	}
	check(in.Commit(ctx))
	return fmt.Sprint(count, " ", sum)
}

func stream(db *pgx.Conn) string {
	rows, err := db.Query(ctx, "select n, repeat('x', 100) from generate_series(0, 19999) n")
	check(err)
	var n, count, length int
	var text string
	_, err = pgx.ForEachRow(rows, []any{&n, &text}, func() error { count, length = count+1, length+len(text); return nil })
	check(err)
	return fmt.Sprint(count, " ", length)
}

func listen(db, other *pgx.Conn) string {
	run(db, "listen heard")
	run(other, "notify heard, 'hello'")
	patience, done := context.WithTimeout(ctx, 30*time.Second)
	defer done()
	said, err := db.WaitForNotification(patience)
	check(err)
	return said.Payload
}

func cancel(db, other *pgx.Conn) string {
	go func() {
		for ask[int](other, sleepers) == 0 {
		}
		check(db.PgConn().CancelRequest(ctx))
	}()
	_, err := db.Exec(ctx, "select pg_sleep(600)")
	return fmt.Sprint(strings.Replace(codeOf(err), "57014", "cancelled", 1), " ", ask[int](db, "select 1"))
}

func timeout(db *pgx.Conn) string {
	run(db, "begin", "set local statement_timeout = '200ms'")
	_, err := db.Exec(ctx, "select pg_sleep(600)")
	return codeOf(err)
}

func reconnects() string {
	total := 0
	for range 50 {
		within(func(db *pgx.Conn) string { total += ask[int](db, "select 1"); return "" })
	}
	return fmt.Sprint(total)
}

func pool() string {
	config, err := pgxpool.ParseConfig(url)
	check(err)
	config.MaxConns = 10
	pool, err := pgxpool.NewWithConfig(ctx, config)
	check(err)
	defer pool.Close()
	var tasks sync.WaitGroup
	right := make([]int, 10)
	for token := range right {
		tasks.Go(func() {
			for n := range 50 {
				wanted := fmt.Sprint(token, "-", n)
				if ask[string](pool, "select $1::text || '-' || $2::text", fmt.Sprint(token), fmt.Sprint(n)) == wanted {
					right[token]++
				}
			}
		})
	}
	tasks.Wait()
	total := 0
	for _, count := range right {
		total += count
	}
	return fmt.Sprint(total)
}

func lock(db, other *pgx.Conn) string {
	run(db, "select pg_advisory_lock(4711)")
	taken := ask[bool](other, "select pg_try_advisory_lock(4711)")
	return fmt.Sprint(taken, " ", ask[bool](db, "select pg_advisory_unlock(4711)"))
}

func main() {
	behaviours := []struct {
		name string
		run  func() string
	}{
		{"connect", func() string {
			return within(func(db *pgx.Conn) string { return ask[string](db, look) }, named, special)
		}},
		{"simple", func() string {
			return within(func(db *pgx.Conn) string { return ask[string](db, "select 1 || ' two'") })
		}},
		{"types", func() string { return within(types) }},
		{"prepared", func() string { return fmt.Sprint(kept(pgx.QueryExecModeCacheStatement)) }},
		{"described", func() string { return fmt.Sprint(kept(pgx.QueryExecModeCacheDescribe)) }},
		{"unnamed", func() string { return fmt.Sprint(kept(pgx.QueryExecModeExec)) }},
		{"many", func() string { return within(many) }},
		{"transaction", func() string { return within(transaction) }},
		{"recovery", func() string { return within(recovery) }},
		{"unique", func() string { return within(unique) }},
		{"notice", notice},
		{"altered", func() string { return withinTwo(altered) }},
		{"copy", func() string { return within(copies) }},
		{"cursor", func() string { return within(cursor) }},
		{"stream", func() string { return within(stream) }},
		{"listen", func() string { return withinTwo(listen) }},
		{"cancel", func() string { return withinTwo(cancel) }},
		{"timeout", func() string { return within(timeout) }},
		{"reconnects", reconnects},
		{"pool", pool},
		{"timezone", func() string {
			return within(func(db *pgx.Conn) string {
				run(db, "set timezone to 'Asia/Tokyo'")
				return ask[string](db, "show timezone")
			})
		}},
		{"reset", func() string {
			return within(func(db *pgx.Conn) string {
				run(db, "set application_name = 'other'", "set work_mem = '1MB'", "reset all")
				return ask[string](db, look)
			}, named)
		}},
		{"lock", func() string { return withinTwo(lock) }},
		{"temporary", func() string {
			return within(func(db *pgx.Conn) string {
				run(db, "create temp table own (n int)", "insert into own values (1), (2), (3)")
				return fmt.Sprint(ask[int](db, "select count(*) from own"))
			})
		}},
	}
	for _, behaviour := range behaviours {
		fmt.Printf("%s\t%s\n", behaviour.name, outcome(behaviour.run))
	}
}

// outcome is what came of a behaviour; an error is one as well.
func outcome(run func() string) (said string) {
	defer func() {
		if problem := recover(); problem != nil {
			said = strings.ReplaceAll(fmt.Sprint(problem), "\n", " ")
		}
	}()
	return run()
}
