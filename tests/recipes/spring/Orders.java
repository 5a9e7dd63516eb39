// An application in Java. Each line on its input is a round of twenty threads, each with a session of its own.
package shop;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.transaction.PlatformTransactionManager;
import org.springframework.transaction.support.TransactionTemplate;

public class Orders {
    @EnableAutoConfiguration
    static class Application {}

    static final int SESSIONS = 20;
    static final int ORDERS = 10;

    final JdbcTemplate jdbc;
    final PlatformTransactionManager transactions;
    final CyclicBarrier allThere = new CyclicBarrier(SESSIONS);

    Orders(JdbcTemplate jdbc, PlatformTransactionManager transactions) {
        this.jdbc = jdbc;
        this.transactions = transactions;
    }

    /** Writes an order and reads it, in one transaction; then reads it in another that may only read. */
    boolean order(int session, int number) {
        var writing = new TransactionTemplate(transactions);
        Long id = writing.execute(status -> {
            var made = jdbc.queryForObject(
                "insert into orders (session, number) values (?, ?) returning id", Long.class, session, number);
            return jdbc.queryForObject("select id from orders where id = ? and session = ?", Long.class, made, session);
        });
        var reading = new TransactionTemplate(transactions);
        reading.setReadOnly(true);
        return reading.execute(status ->
            jdbc.queryForObject("select number from orders where id = ?", Integer.class, id)) == number;
    }

    int work(int session) throws Exception {
        // Each thread has a session before the first goes on; a transaction begins with its first statement only.
        new TransactionTemplate(transactions).executeWithoutResult(status -> {
            try {
                allThere.await();
            } catch (Exception error) {
                throw new IllegalStateException(error);
            }
        });
        return (int) IntStream.range(0, ORDERS).filter(number -> order(session, number)).count();
    }

    int round(ExecutorService threads) throws Exception {
        var working = IntStream.range(0, SESSIONS).mapToObj(session -> threads.submit(() -> work(session))).toList();
        int right = 0;
        for (Future<Integer> one : working) {
            right += one.get();
        }
        return right;
    }

    public static void main(String[] arguments) throws Exception {
        var said = Stream.of("--spring.main.banner-mode=off", "--logging.level.root=off").toArray(String[]::new);
        try (var context = SpringApplication.run(Application.class, said)) {
            var jdbc = context.getBean(JdbcTemplate.class);
            var orders = new Orders(jdbc, context.getBean(PlatformTransactionManager.class));
            jdbc.execute("create table orders (id bigserial primary key, session int, number int)");
            System.out.println("ready");
            var threads = Executors.newFixedThreadPool(SESSIONS);
            var input = new BufferedReader(new InputStreamReader(System.in));
            while (input.readLine() != null) {
                System.out.println(orders.round(threads));
            }
            threads.shutdown();
        }
    }
}
