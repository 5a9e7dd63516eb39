"""An application in Django. Each line on its input is a round of twenty threads, each with a session of its own."""
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

os.environ["DJANGO_SETTINGS_MODULE"] = "project"

import django

django.setup()

from django.core.management import call_command
from django.core.signals import request_finished, request_started
from django.db import connection, transaction

from shop.models import Order

SESSIONS, ORDERS = 20, 10
all_there = Barrier(SESSIONS)


def work(session):
    """What a thread of a web server does with some requests."""
    all_there.wait()
    right = 0
    for number in range(ORDERS):
        request_started.send(sender=None)
        with transaction.atomic():
            order = Order.objects.create(session=session, number=number)
            found = Order.objects.get(pk=order.pk)
        right += (found.session, found.number) == (session, number)
        request_finished.send(sender=None)
    # Outside of a transaction: with a cursor on the server this would keep the connection.
    assert sum(1 for _ in Order.objects.filter(session=session).iterator(chunk_size=5)) >= ORDERS
    return right


call_command("migrate", verbosity=0)
connection.close()
print("ready", flush=True)
with ThreadPoolExecutor(SESSIONS) as executor:
    for _ in sys.stdin:
        print(sum(executor.map(work, range(SESSIONS))), flush=True)
