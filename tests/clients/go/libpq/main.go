// lib/pq: a driver of database/sql with a protocol of its own, whose pool is database/sql's.
package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/lib/pq"
)

const look = "select current_setting('application_name') || ' ' || current_setting('work_mem')"
const sleepers = "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep(600)%'"

var url = os.Args[1] + "?sslmode=disable"
var ctx = context.Background()

// check ends a behaviour with an error as its outcome.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

// codeOf is the SQLSTATE of an error.
func codeOf(err error) string {
	var said *pq.Error
	if errors.As(err, &said) {
		return string(said.Code)
	}
	return fmt.Sprint(err)
}

// within runs use with one connection of a pool of its own.
func within(use func(db *sql.Conn) string, more ...string) string {
	pool, err := sql.Open("postgres", url+strings.Join(more, ""))
	check(err)
	defer pool.Close()
	db, err := pool.Conn(ctx)
	check(err)
	defer db.Close()
	return use(db)
}

// withinTwo does the same with two connections.
func withinTwo(use func(db, other *sql.Conn) string) string {
	return within(func(db *sql.Conn) string { return within(func(other *sql.Conn) string { return use(db, other) }) })
}

func run(db *sql.Conn, statements ...string) {
	for _, text := range statements {
		_, err := db.ExecContext(ctx, text)
		check(err)
	}
}

func ask[T any](db interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}, text string, values ...any) (said T) {
	check(db.QueryRowContext(ctx, text, values...).Scan(&said))
	return said
}

func types(db *sql.Conn) string {
	moment := time.Date(2026, 11, 26, 18, 30, 1, 234567000, time.UTC)
	data := bytes.Repeat([]byte{0, 1, 39, 92, 128, 255, 10, 13}, 1<<17)
	document, err := json.Marshal(map[string]any{"a": []any{1, nil, "ü"}})
	check(err)
	numbers, texts := []int64{1, 2, 3}, []string{"a", "b'c", "d\"e", "ü,{}"}
	sent := []any{int64(42), "O'Grüße \"€\" \\ 😀 %s $1", sql.NullInt64{}, "12345678901234567890.123456789", moment, data, string(document), numbers, texts}
	row := make([]any, len(sent))
	for index, value := range sent {
		row[index] = reflect.New(reflect.TypeOf(value)).Interface()
	}
	asked, scanned := append([]any{}, sent...), append([]any{}, row...)
	for index := 7; index < 9; index++ {
		asked[index], scanned[index] = pq.Array(sent[index]), pq.Array(row[index])
	}
	const text = "select $1::int, $2::text, $3::int, $4::numeric, $5::timestamptz, $6::bytea, $7::json, $8::int[], $9::text[]"
	check(db.QueryRowContext(ctx, text, asked...).Scan(scanned...))
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

func prepared(db *sql.Conn) string {
	statement, err := db.PrepareContext(ctx, "select $1::int + 1")
	check(err)
	defer statement.Close()
	total := 0
	for n := range 20 {
		var said int
		check(statement.QueryRowContext(ctx, n).Scan(&said))
		total += said
	}
	return fmt.Sprint(total)
}

func many(db *sql.Conn) string {
	run(db, "drop table if exists many; create table many (n int)")
	statement, err := db.PrepareContext(ctx, "insert into many values ($1)")
	check(err)
	for n := range 100 {
		_, err := statement.ExecContext(ctx, n)
		check(err)
	}
	return ask[string](db, "select count(*) || ' ' || sum(n) from many")
}

func transaction(db *sql.Conn) string {
	run(db, "drop table if exists kept; create table kept (n int)")
	keep := func(numbers []int, end func(*sql.Tx) error) {
		in, err := db.BeginTx(ctx, nil)
		check(err)
		for index, n := range numbers {
			if index > 0 {
				_, err = in.Exec("savepoint s")
				check(err)
			}
			_, err = in.Exec("insert into kept values ($1)", n)
			check(err)
			if index > 0 {
				_, err = in.Exec("rollback to savepoint s")
				check(err)
			}
		}
		check(end(in))
	}
	keep([]int{1}, (*sql.Tx).Commit)
	keep([]int{2}, (*sql.Tx).Rollback)
	keep([]int{3, 4}, (*sql.Tx).Commit)
	return ask[string](db, "select string_agg(n::text, ',' order by n) from kept")
}

func recovery(db *sql.Conn) string {
	in, err := db.BeginTx(ctx, nil)
	check(err)
	_, one := in.Exec("select 1/0")
	_, two := in.Exec("select $1::int", 2)
	check(in.Rollback())
	return fmt.Sprint(codeOf(one), " ", codeOf(two), " ", ask[int](db, "select 3"))
}

func unique(db *sql.Conn) string {
	run(db, "drop table if exists tokens; create table tokens (n int primary key); insert into tokens values (1)")
	_, err := db.ExecContext(ctx, "insert into tokens values ($1)", 1)
	var said *pq.Error
	errors.As(err, &said)
	return string(said.Code) + " " + said.Constraint
}

func notice() string {
	connector, err := pq.NewConnector(url)
	check(err)
	heard := ""
	pool := sql.OpenDB(pq.ConnectorWithNoticeHandler(connector, func(said *pq.Error) { heard = said.Message }))
	defer pool.Close()
	_, err = pool.Exec("do $$ begin raise notice 'heard %', 7; end $$")
	check(err)
	return heard
}

func altered(db, other *sql.Conn) string {
	run(other, "drop table if exists altered; create table altered (a int)")
	statement, err := db.PrepareContext(ctx, "select * from altered")
	check(err)
	columns := func() (int, error) {
		rows, err := statement.QueryContext(ctx)
		if err != nil {
			return 0, err
		}
		defer rows.Close()
		names, err := rows.Columns()
		return len(names), err
	}
	before, err := columns()
	check(err)
	run(other, "alter table altered add b int")
	if _, err := columns(); codeOf(err) == "0A000" {
		statement, err = db.PrepareContext(ctx, "select * from altered")
		check(err)
	}
	after, err := columns()
	check(err)
	return fmt.Sprint(before, " ", after)
}

// copies has no way out: the driver does not take COPY TO.
func copies(db *sql.Conn) string {
	run(db, "drop table if exists copied; create table copied (n int, t text)")
	in, err := db.BeginTx(ctx, nil)
	check(err)
	statement, err := in.Prepare(pq.CopyIn("copied", "n", "t"))
	check(err)
	for n := range 1000 {
		_, err = statement.Exec(n, fmt.Sprint("ü", n))
		check(err)
	}
	_, err = statement.Exec()
	check(err)
	check(statement.Close())
	check(in.Commit())
	return ask[string](db, "select count(*) || ' ' || count(*) filter (where t = 'ü' || n) from copied")
}

func cursor(db *sql.Conn) string {
	count, sum := 0, 0
	in, err := db.BeginTx(ctx, nil)
	check(err)
	_, err = in.Exec("declare on_server cursor for select n from generate_series(0, 999) n")
	check(err)
	for more := true; more; {
		rows, err := in.Query("fetch 50 from on_server")
		check(err)
		for more = false; rows.Next(); more = true {
			var n int
			check(rows.Scan(&n))
			count, sum = count+1, sum+n
		}
		check(rows.Err())
	}
	check(in.Commit())
	return fmt.Sprint(count, " ", sum)
}

func stream(db *sql.Conn) string {
	rows, err := db.QueryContext(ctx, "select repeat('x', 100) from generate_series(0, 19999) n")
	check(err)
	count, length, text := 0, 0, ""
	for rows.Next() {
		check(rows.Scan(&text))
		count, length = count+1, length+len(text)
	}
	check(rows.Err())
	return fmt.Sprint(count, " ", length)
}

func listen() string {
	listener := pq.NewListener(url, time.Second, time.Minute, nil)
	defer listener.Close()
	check(listener.Listen("heard"))
	within(func(db *sql.Conn) string { run(db, "notify heard, 'hello'"); return "" })
	select {
	case said := <-listener.Notify:
		return said.Extra
	case <-time.After(30 * time.Second):
		return "nothing"
	}
}

func cancel(db, other *sql.Conn) string {
	sleep, end := context.WithCancel(ctx)
	go func() {
		for ask[int](other, sleepers) == 0 {
		}
		end()
	}()
	_, err := db.ExecContext(sleep, "select pg_sleep(600)")
	if errors.Is(err, context.Canceled) || codeOf(err) == "57014" {
		return fmt.Sprint("cancelled ", ask[int](other, "select 1"))
	}
	return codeOf(err)
}

func timeout(db *sql.Conn) string {
	run(db, "begin", "set local statement_timeout = '200ms'")
	_, err := db.ExecContext(ctx, "select pg_sleep(600)")
	run(db, "rollback")
	return codeOf(err)
}

func reconnects() string {
	total := 0
	for range 50 {
		within(func(db *sql.Conn) string { total += ask[int](db, "select 1"); return "" })
	}
	return fmt.Sprint(total)
}

func pool() string {
	pool, err := sql.Open("postgres", url)
	check(err)
	defer pool.Close()
	pool.SetMaxOpenConns(10)
	var tasks sync.WaitGroup
	right := make([]int, 10)
	for token := range right {
		tasks.Go(func() {
			for n := range 50 {
				wanted := fmt.Sprint(token, "-", n)
				if ask[string](pool, "select $1 || '-' || $2", fmt.Sprint(token), fmt.Sprint(n)) == wanted {
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

func lock(db, other *sql.Conn) string {
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
			return within(func(db *sql.Conn) string { return ask[string](db, look) },
				"&application_name=clients", "&options=-c%20work_mem%3D3MB")
		}},
		{"simple", func() string {
			return within(func(db *sql.Conn) string { return ask[string](db, "select 1 || ' two'") })
		}},
		{"types", func() string { return within(types) }},
		{"prepared", func() string { return within(prepared) }},
		{"many", func() string { return within(many) }},
		{"transaction", func() string { return within(transaction) }},
		{"recovery", func() string { return within(recovery) }},
		{"unique", func() string { return within(unique) }},
		{"notice", notice},
		{"altered", func() string { return withinTwo(altered) }},
		{"copy", func() string { return within(copies) }},
		{"cursor", func() string { return within(cursor) }},
		{"stream", func() string { return within(stream) }},
		{"listen", listen},
		{"cancel", func() string { return withinTwo(cancel) }},
		{"timeout", func() string { return within(timeout) }},
		{"reconnects", reconnects},
		{"pool", pool},
		{"timezone", func() string {
			return within(func(db *sql.Conn) string {
				run(db, "set timezone to 'Asia/Tokyo'")
				return ask[string](db, "show timezone")
			})
		}},
		{"reset", func() string {
			return within(func(db *sql.Conn) string {
				run(db, "set application_name = 'other'", "set work_mem = '1MB'", "discard all")
				return ask[string](db, look)
			}, "&application_name=clients")
		}},
		{"lock", func() string { return withinTwo(lock) }},
		{"temporary", func() string {
			return within(func(db *sql.Conn) string {
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
