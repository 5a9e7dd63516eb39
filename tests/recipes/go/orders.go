// An application in Go. Each line on its input is a round of twenty sessions at one time.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const sessions, orders = 20, 10

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// work is what one of the sessions does.
func work(ctx context.Context, db *pgxpool.Conn, session int) (right int) {
	for number := range orders {
		check(pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			var id, seenSession, seenNumber int
			insert := "insert into orders (session, number) values ($1, $2) returning id"
			if err := tx.QueryRow(ctx, insert, session, number).Scan(&id); err != nil {
				return err
			}
			look := "select session, number from orders where id = $1"
			if err := tx.QueryRow(ctx, look, id).Scan(&seenSession, &seenNumber); err != nil {
				return err
			}
			if seenSession == session && seenNumber == number {
				right++
			}
			return nil
		}))
	}
	return right
}

// round has all sessions at work at one time, and counts what was right.
func round(ctx context.Context, pool *pgxpool.Pool) (right int) {
	var group sync.WaitGroup
	var counted sync.Mutex
	var open []*pgxpool.Conn
	// Each has its session before the first begins.
	for range sessions {
		db, err := pool.Acquire(ctx)
		check(err)
		open = append(open, db)
	}
	for session, db := range open {
		group.Add(1)
		go func() {
			defer group.Done()
			defer db.Release()
			mine := work(ctx, db, session)
			counted.Lock()
			right += mine
			counted.Unlock()
		}()
	}
	group.Wait()
	return right
}

func main() {
	ctx := context.Background()
	pool, err := open(ctx)
	check(err)
	_, err = pool.Exec(ctx, "create table orders (id bigserial primary key, session int, number int)")
	check(err)
	fmt.Println("ready")
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		fmt.Println(round(ctx, pool))
	}
	pool.Close()
}
