"""Django on psycopg 3: connections that are kept, a time zone of its own, its ORM and its server-side cursors."""
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import django
from django.conf import settings

from common import *

PLACE = urlsplit(URL)


def database(**more):
    return {"ENGINE": "django.db.backends.postgresql", "NAME": PLACE.path[1:], "USER": PLACE.username,
            "HOST": PLACE.hostname, "PORT": PLACE.port, "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True,
            "TIME_ZONE": "Asia/Tokyo", "OPTIONS": more}


settings.configure(
    USE_TZ=True,
    TIME_ZONE="Asia/Tokyo",
    DATABASES={
        "default": database(),
        "special": database(application_name="clients", options="-c work_mem=3MB"),
        "pooled": database(pool={"min_size": 1, "max_size": 10}) | {"CONN_MAX_AGE": 0},
    },
)
django.setup()

from django.contrib.postgres.fields import ArrayField
from django.db import DataError, IntegrityError, InternalError, OperationalError, connection, connections, models, transaction as atomic
from django.db.models import Count, Sum


class Thing(models.Model):
    number = models.IntegerField(null=True)
    text = models.TextField(null=True)
    nothing = models.IntegerField(null=True)
    decimal = models.DecimalField(max_digits=40, decimal_places=9, null=True)
    moment = models.DateTimeField(null=True)
    data = models.BinaryField(null=True)
    document = models.JSONField(null=True)
    numbers = ArrayField(models.IntegerField(), null=True)
    texts = ArrayField(models.TextField(), null=True)

    class Meta:
        app_label = "clients"
        db_table = "django_things"
        constraints = [models.UniqueConstraint(fields=["text"], name="tokens_pkey")]


def emptied():
    with connection.cursor() as cursor:
        cursor.execute("drop table if exists django_things")
    with connection.schema_editor() as editor:
        editor.create_model(Thing)


def ask(sql, values=None, using=connection):
    with using.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchone() if cursor.description else None


@behaviour
def connect():
    outcome = ask(LOOK, using=connections["special"])[0]
    connections["special"].close()
    return outcome


@behaviour
def simple():
    return " ".join(map(str, ask("select 1, 'two'")))


@behaviour
def types():
    emptied()
    names = ["number", "text", "nothing", "decimal", "moment", "data", "document", "numbers", "texts"]
    sent = (NUMBER, TEXT, None, DECIMAL, MOMENT, BYTES, DOCUMENT, NUMBERS, TEXTS)
    Thing.objects.create(**dict(zip(names, sent)))
    row = list(Thing.objects.values_list(*names).get(text=TEXT))
    row[5] = bytes(row[5])
    return same(sent, row)


@behaviour
def many():
    emptied()
    Thing.objects.bulk_create(Thing(number=n) for n in range(100))
    said = Thing.objects.aggregate(Count("id"), Sum("number"))
    return f"{said['id__count']} {said['number__sum']}"


@behaviour
def transaction():
    emptied()
    with atomic.atomic():
        Thing.objects.create(number=1)
    with atomic.atomic():
        Thing.objects.create(number=2)
        atomic.set_rollback(True)
    with atomic.atomic():
        Thing.objects.create(number=3)
        with atomic.atomic():
            Thing.objects.create(number=4)
            atomic.set_rollback(True)
    return ",".join(str(n) for n in Thing.objects.order_by("number").values_list("number", flat=True))


@behaviour
def recovery():
    heard = []
    with atomic.atomic():
        try:
            with atomic.atomic():
                for sql in ["select 1/0", "select 2"]:
                    try:
                        ask(sql)
                    except (DataError, InternalError) as error:
                        heard.append(error.__cause__.sqlstate)
                raise DataError
        except DataError:
            return " ".join([*heard, str(ask("select 3")[0])])


@behaviour
def unique():
    emptied()
    Thing.objects.create(text="same")
    try:
        Thing.objects.create(text="same")
    except IntegrityError as error:
        return f"{error.__cause__.sqlstate} {error.__cause__.diag.constraint_name}"


@behaviour
def cursor():
    emptied()
    Thing.objects.bulk_create(Thing(number=n) for n in range(1000))
    connection.close()
    numbers = [thing.number for thing in Thing.objects.iterator(chunk_size=50)]
    connection.close()
    return f"{len(numbers)} {sum(numbers)}"


@behaviour
def stream():
    with connection.cursor() as cursor:
        cursor.execute(ROWS)
        rows = cursor.fetchall()
        return f"{len(rows)} {sum(len(row[1]) for row in rows)}"


@behaviour
def timeout():
    with atomic.atomic():
        try:
            with atomic.atomic():
                ask("set local statement_timeout = '200ms'")
                ask("select pg_sleep(600)")
        except OperationalError as error:
            return error.__cause__.sqlstate


@behaviour
def reconnects():
    def once():
        connection.close()
        return ask("select 1")[0]

    return sum(once() for _ in range(50))


@behaviour
def pool():
    def task(token):
        right = 0
        for n in range(50):
            db = connections["pooled"]
            right += ask("select %s || '-' || %s", [str(token), str(n)], using=db)[0] == f"{token}-{n}"
            db.close()
        return right

    with ThreadPoolExecutor(10) as executor:
        right = sum(executor.map(task, range(10)))
    connections["pooled"].close_pool()
    return right


@behaviour
def timezone():
    connection.close()
    return ask("show timezone")[0]


@behaviour
def lock():
    other = connection.copy()
    ask("select pg_advisory_lock(4711)")
    taken = ask("select pg_try_advisory_lock(4711)", using=other)[0]
    outcome = f"{taken} {ask('select pg_advisory_unlock(4711)')[0]}".lower()
    other.close()
    connection.close()
    return outcome


@behaviour
def temporary():
    ask("create temp table own (n int)")
    ask("insert into own values (1), (2), (3)")
    outcome = ask("select count(*) from own")[0]
    connection.close()
    return outcome


run()
connections.close_all()
