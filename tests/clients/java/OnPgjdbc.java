// pgjdbc: a protocol of its own, statements that are prepared by name from their fifth use on, batches, COPY.

import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.time.OffsetDateTime;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.stream.IntStream;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.util.PSQLException;

class OnPgjdbc {
    static final String LOOK = "select current_setting('application_name') || ' ' || current_setting('work_mem')";
    static final String SLEEPERS =
        "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep(600)%'";
    static String url;

    interface Use {
        String of(Connection db) throws Exception;
    }

    interface UseOfTwo {
        String of(Connection db, Connection other) throws Exception;
    }

    static Connection dial(String... more) throws SQLException {
        var properties = new Properties();
        for (int index = 0; index < more.length; index += 2) properties.setProperty(more[index], more[index + 1]);
        return DriverManager.getConnection(url, properties);
    }

    static String within(Use use, String... more) throws Exception {
        try (var db = dial(more)) {
            return use.of(db);
        }
    }

    static String withinTwo(UseOfTwo use) throws Exception {
        try (var db = dial(); var other = dial()) {
            return use.of(db, other);
        }
    }

    static void run(Connection db, String... statements) throws SQLException {
        try (Statement statement = db.createStatement()) {
            for (String sql : statements) statement.execute(sql);
        }
    }

    static String ask(Connection db, String sql, Object... values) throws SQLException {
        try (PreparedStatement statement = db.prepareStatement(sql)) {
            for (int index = 0; index < values.length; index++) statement.setObject(index + 1, values[index]);
            ResultSet rows = statement.executeQuery();
            rows.next();
            return rows.getString(1);
        }
    }

    static String codeOf(Connection db, String sql) {
        try {
            return ask(db, sql);
        } catch (SQLException error) {
            return error.getSQLState();
        }
    }

    static String types(Connection db) throws Exception {
        var bytes = new byte[1 << 20];
        for (int index = 0; index < bytes.length; index++) bytes[index] = (byte) index;
        String document = "{\"a\": [1, null, \"ü\"], \"b\": {\"c\": true}}";
        Object[] sent = {42, "O'Grüße \"€\" \\ 😀 %s $1", null, new BigDecimal("12345678901234567890.123456789"),
            OffsetDateTime.parse("2026-11-26T18:30:01.234567Z"), bytes, document, new Integer[] {1, 2, 3},
            new String[] {"a", "b'c", "d\"e", "ü,{}"}};
        String sql = "select ?::int, ?::text, ?::int, ?::numeric, ?::timestamptz, ?::bytea, ?::jsonb, ?::int[], ?::text[]";
        try (PreparedStatement statement = db.prepareStatement(sql)) {
            // Often enough for its own change from text to binary values.
            for (int round = 0; round < 7; round++) {
                for (int index = 0; index < sent.length; index++) statement.setObject(index + 1, sent[index]);
                ResultSet row = statement.executeQuery();
                row.next();
                for (int index = 0; index < sent.length; index++) {
                    Object received = sent[index] instanceof OffsetDateTime
                        ? row.getObject(index + 1, OffsetDateTime.class)
                        : index < 6 ? row.getObject(index + 1) : index == 6 ? row.getString(7) : row.getArray(index + 1).getArray();
                    if (!Objects.deepEquals(sent[index], received)) return "value " + index + " came back as " + received;
                }
            }
        }
        return sent.length + " values the same";
    }

    static String prepared(Connection db) throws Exception {
        int total = 0;
        try (PreparedStatement statement = db.prepareStatement("select ?::int + 1")) {
            for (int n = 0; n < 20; n++) {
                statement.setInt(1, n);
                ResultSet rows = statement.executeQuery();
                rows.next();
                total += rows.getInt(1);
            }
        }
        return String.valueOf(total);
    }

    static String many(Connection db) throws Exception {
        run(db, "drop table if exists many; create table many (n int)");
        try (PreparedStatement statement = db.prepareStatement("insert into many values (?)")) {
            for (int n = 0; n < 100; n++) {
                statement.setInt(1, n);
                statement.addBatch();
            }
            statement.executeBatch();
        }
        return ask(db, "select count(*) || ' ' || sum(n) from many");
    }

    static String transaction(Connection db) throws Exception {
        run(db, "drop table if exists kept; create table kept (n int)");
        db.setAutoCommit(false);
        run(db, "insert into kept values (1)");
        db.commit();
        run(db, "insert into kept values (2)");
        db.rollback();
        run(db, "insert into kept values (3)");
        Savepoint savepoint = db.setSavepoint();
        run(db, "insert into kept values (4)");
        db.rollback(savepoint);
        db.commit();
        return ask(db, "select string_agg(n::text, ',' order by n) from kept");
    }

    static String recovery(Connection db) throws Exception {
        db.setAutoCommit(false);
        String heard = codeOf(db, "select 1/0") + " " + codeOf(db, "select 2");
        db.rollback();
        return heard + " " + ask(db, "select 3");
    }

    static String unique(Connection db) throws Exception {
        run(db, "drop table if exists tokens; create table tokens (n int primary key); insert into tokens values (1)");
        try {
            run(db, "insert into tokens values (1)");
            return "no error";
        } catch (PSQLException error) {
            return error.getSQLState() + " " + error.getServerErrorMessage().getConstraint();
        }
    }

    static String notice(Connection db) throws Exception {
        try (Statement statement = db.createStatement()) {
            statement.execute("do $$ begin raise notice 'heard %', 7; end $$");
            return statement.getWarnings().getMessage();
        }
    }

    static String altered(Connection db, Connection other) throws Exception {
        run(other, "drop table if exists altered; create table altered (a int); insert into altered values (1)");
        try (PreparedStatement statement = db.prepareStatement("select * from altered")) {
            int before = 0;
            // Often enough that the statement is prepared by name.
            for (int n = 0; n < 7; n++) before = statement.executeQuery().getMetaData().getColumnCount();
            run(other, "alter table altered add b int");
            return before + " " + statement.executeQuery().getMetaData().getColumnCount();
        }
    }

    static String copy(Connection db) throws Exception {
        run(db, "drop table if exists copied; create table copied (n int, t text)");
        var lines = new StringBuilder();
        for (int n = 0; n < 1000; n++) lines.append(n).append("\tü").append(n).append('\n');
        var api = db.unwrap(PGConnection.class).getCopyAPI();
        long count = api.copyIn("copy copied from stdin", new StringReader(lines.toString()));
        var out = new ByteArrayOutputStream();
        api.copyOut("copy copied to stdout", out);
        return count + " " + out.toString(StandardCharsets.UTF_8).chars().filter(letter -> letter == 'ü').count();
    }

    static String rows(Connection db, String sql, boolean lengths) throws Exception {
        db.setAutoCommit(false);
        int count = 0, sum = 0;
        try (PreparedStatement statement = db.prepareStatement(sql)) {
            // In parts, from a portal.
            statement.setFetchSize(50);
            ResultSet rows = statement.executeQuery();
            for (; rows.next(); count++) sum += lengths ? rows.getString(1).length() : rows.getInt(1);
        }
        db.commit();
        return count + " " + sum;
    }

    static String listen(Connection db, Connection other) throws Exception {
        run(db, "listen heard");
        run(other, "notify heard, 'hello'");
        PGNotification[] heard = db.unwrap(PGConnection.class).getNotifications(30_000);
        return heard == null || heard.length == 0 ? "nothing" : heard[0].getParameter();
    }

    static String cancel(Connection db, Connection other) throws Exception {
        try (Statement statement = db.createStatement()) {
            var canceller = new Thread(() -> {
                try {
                    while (ask(other, SLEEPERS).equals("0")) {
                        Thread.onSpinWait();
                    }
                    statement.cancel();
                } catch (SQLException error) {
                    throw new IllegalStateException(error);
                }
            });
            canceller.start();
            try {
                statement.execute("select pg_sleep(600)");
                return "no error";
            } catch (SQLException error) {
                canceller.join();
                return error.getSQLState().replace("57014", "cancelled") + " " + ask(db, "select 1");
            }
        }
    }

    static String timeout(Connection db) throws Exception {
        db.setAutoCommit(false);
        run(db, "set local statement_timeout = '200ms'");
        return codeOf(db, "select pg_sleep(600)");
    }

    static String reconnects() throws Exception {
        int total = 0;
        for (int n = 0; n < 50; n++) total += Integer.parseInt(within(db -> ask(db, "select 1")));
        return String.valueOf(total);
    }

    // It has no pool that is for use: ten connections at the same time.
    static String pool() throws Exception {
        ExecutorService executor = Executors.newFixedThreadPool(10);
        List<Callable<Integer>> tasks = IntStream.range(0, 10).<Callable<Integer>>mapToObj(token -> () -> {
            int right = 0;
            try (var db = dial()) {
                for (int n = 0; n < 50; n++) {
                    String said = ask(db, "select ?::text || '-' || ?::text", String.valueOf(token), String.valueOf(n));
                    right += said.equals(token + "-" + n) ? 1 : 0;
                }
            }
            return right;
        }).toList();
        int right = 0;
        for (var task : executor.invokeAll(tasks)) right += task.get();
        executor.shutdown();
        return String.valueOf(right);
    }

    static String asks(Connection db, String sql, String... before) throws Exception {
        run(db, before);
        return ask(db, sql);
    }

    static String yes(String bool) {
        return bool.equals("t") ? "true" : "false";
    }

    static String lock(Connection db, Connection other) throws Exception {
        run(db, "select pg_advisory_lock(4711)");
        String taken = ask(other, "select pg_try_advisory_lock(4711)");
        return yes(taken) + " " + yes(ask(db, "select pg_advisory_unlock(4711)"));
    }

    public static void main(String[] arguments) {
        url = "jdbc:" + arguments[0].replaceFirst("//(\\w+)@(.*)$", "//$2?user=$1");
        Map<String, Callable<String>> behaviours = new LinkedHashMap<>();
        behaviours.put("connect", () -> within(db -> ask(db, LOOK), "ApplicationName", "clients", "options", "-c work_mem=3MB"));
        behaviours.put("simple", () -> within(db -> ask(db, "select 1 || ' two'"), "preferQueryMode", "simple"));
        behaviours.put("types", () -> within(OnPgjdbc::types));
        behaviours.put("prepared", () -> within(OnPgjdbc::prepared));
        behaviours.put("many", () -> within(OnPgjdbc::many));
        behaviours.put("transaction", () -> within(OnPgjdbc::transaction));
        behaviours.put("recovery", () -> within(OnPgjdbc::recovery));
        behaviours.put("unique", () -> within(OnPgjdbc::unique));
        behaviours.put("notice", () -> within(OnPgjdbc::notice));
        behaviours.put("altered", () -> withinTwo(OnPgjdbc::altered));
        behaviours.put("copy", () -> within(OnPgjdbc::copy));
        behaviours.put("cursor", () -> within(db -> rows(db, "select n from generate_series(0, 999) n", false)));
        behaviours.put("stream", () -> within(db -> rows(db, "select repeat('x', 100) from generate_series(0, 19999) n", true)));
        behaviours.put("listen", () -> withinTwo(OnPgjdbc::listen));
        behaviours.put("cancel", () -> withinTwo(OnPgjdbc::cancel));
        behaviours.put("timeout", () -> within(OnPgjdbc::timeout));
        behaviours.put("reconnects", OnPgjdbc::reconnects);
        behaviours.put("pool", OnPgjdbc::pool);
        behaviours.put("timezone", () -> within(db -> asks(db, "show timezone", "set timezone to 'Asia/Tokyo'")));
        behaviours.put("reset", () -> within(
            db -> asks(db, LOOK, "set application_name = 'other'", "set work_mem = '1MB'", "reset all"),
            "ApplicationName", "clients", "assumeMinServerVersion", "12"));
        behaviours.put("lock", () -> withinTwo(OnPgjdbc::lock));
        behaviours.put("temporary", () -> within(db -> asks(db, "select count(*) from own",
            "create temp table own (n int)", "insert into own values (1), (2), (3)")));
        behaviours.forEach((name, behave) -> System.out.println(name + "\t" + outcome(behave)));
    }

    /** What came of a behaviour; an error is an outcome as well. */
    static String outcome(Callable<String> behave) {
        try {
            return behave.call();
        } catch (Exception error) {
            return String.valueOf(error).replace('\n', ' ');
        }
    }
}
