"""SQLAlchemy on psycopg 3: its pool with a look before each use, its transactions, its ORM."""
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import JSON, Integer, String, UniqueConstraint, create_engine, func, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from common import *

ENGINE_URL = URL.replace("postgresql:", "postgresql+psycopg:")


class Base(DeclarativeBase):
    """All tables."""


class Thing(Base):
    __tablename__ = "things"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String)
    document: Mapped[dict] = mapped_column(JSON, nullable=True)
    __table_args__ = (UniqueConstraint("name", name="tokens_pkey"),)


def engine(**more):
    return create_engine(ENGINE_URL, pool_pre_ping=True, pool_size=10, **more)


ENGINE = engine()


def emptied():
    Base.metadata.drop_all(ENGINE)
    Base.metadata.create_all(ENGINE)


@behaviour
def connect():
    special = engine(connect_args={"application_name": "clients", "options": "-c work_mem=3MB"})
    with special.connect() as db:
        outcome = db.scalar(text(LOOK))
    special.dispose()
    return outcome


@behaviour
def simple():
    with ENGINE.connect() as db:
        return " ".join(map(str, db.execute(text("select 1, 'two'")).one()))


@behaviour
def types():
    sent = (NUMBER, TEXT, None, DECIMAL, MOMENT, BYTES, NUMBERS, TEXTS)
    sql = ("select cast(:a as int), cast(:b as text), cast(:c as int), cast(:d as numeric), cast(:e as timestamptz), "
           "cast(:f as bytea), cast(:g as int[]), cast(:h as text[])")
    emptied()
    with ENGINE.connect() as db, Session(ENGINE) as session:
        row = list(db.execute(text(sql), dict(zip("abcdefgh", sent))).one())
        session.add(Thing(name=TEXT, document=DOCUMENT))
        session.commit()
        thing = session.scalars(select(Thing)).one()
        return same((*sent, DOCUMENT), (*row, thing.document))


@behaviour
def many():
    emptied()
    with ENGINE.begin() as db:
        db.execute(insert(Thing), [{"id": n, "name": str(n)} for n in range(100)])
        return "{} {}".format(*db.execute(select(func.count(), func.sum(Thing.id)).select_from(Thing)).one())


@behaviour
def transaction():
    emptied()
    with Session(ENGINE) as session:
        session.add(Thing(id=1, name="1"))
        session.commit()
        session.add(Thing(id=2, name="2"))
        session.flush()
        session.rollback()
        session.add(Thing(id=3, name="3"))
        nested = session.begin_nested()
        session.add(Thing(id=4, name="4"))
        session.flush()
        nested.rollback()
        session.commit()
        return ",".join(str(thing.id) for thing in session.scalars(select(Thing).order_by(Thing.id)))


@behaviour
def recovery():
    with ENGINE.connect() as db:
        heard = []
        for sql in ["select 1/0", "select 2"]:
            try:
                db.execute(text(sql))
            except DBAPIError as error:
                heard.append(error.orig.sqlstate)
        db.rollback()
        return " ".join([*heard, str(db.scalar(text("select 3")))])


@behaviour
def unique():
    emptied()
    with Session(ENGINE) as session:
        session.add_all([Thing(id=1, name="same"), Thing(id=2, name="same")])
        try:
            session.commit()
        except IntegrityError as error:
            return f"{error.orig.sqlstate} {error.orig.diag.constraint_name}"


@behaviour
def cursor():
    with ENGINE.connect() as db:
        rows = db.execution_options(yield_per=50).scalars(text("select n from generate_series(0, 999) n"))
        numbers = list(rows)
        return f"{len(numbers)} {sum(numbers)}"


@behaviour
def stream():
    with ENGINE.connect() as db:
        rows = db.execute(text(ROWS)).all()
        return f"{len(rows)} {sum(len(row[1]) for row in rows)}"


@behaviour
def timeout():
    with ENGINE.begin() as db:
        db.execute(text("set local statement_timeout = '200ms'"))
        try:
            db.execute(text("select pg_sleep(600)"))
        except DBAPIError as error:
            return error.orig.sqlstate


@behaviour
def reconnects():
    def once():
        fresh = engine()
        with fresh.connect() as db:
            outcome = db.scalar(text("select 1"))
        fresh.dispose()
        return outcome

    return sum(once() for _ in range(50))


@behaviour
def pool():
    def task(token):
        right = 0
        for n in range(50):
            with ENGINE.connect() as db:
                row = db.scalar(text("select :token || '-' || :n"), {"token": str(token), "n": str(n)})
                right += row == f"{token}-{n}"
        return right

    with ThreadPoolExecutor(10) as executor:
        return sum(executor.map(task, range(10)))


@behaviour
def timezone():
    with ENGINE.connect() as db:
        db.execute(text("set timezone to 'Asia/Tokyo'"))
        db.commit()
        outcome = db.scalar(text("show timezone"))
        db.invalidate()
        return outcome


@behaviour
def lock():
    with ENGINE.connect() as db, ENGINE.connect() as other:
        db.scalar(text("select pg_advisory_lock(4711)"))
        db.commit()
        taken = other.scalar(text("select pg_try_advisory_lock(4711)"))
        outcome = f"{taken} {db.scalar(text('select pg_advisory_unlock(4711)'))}".lower()
        db.invalidate()
        other.invalidate()
        return outcome


@behaviour
def temporary():
    with ENGINE.connect() as db:
        db.execute(text("create temp table own (n int)"))
        db.commit()
        db.execute(text("insert into own values (1), (2), (3)"))
        db.commit()
        outcome = db.scalar(text("select count(*) from own"))
        db.invalidate()
        return outcome


run()
ENGINE.dispose()
