"""Where Django's own tests find their databases, and how they say what came of each test: as pytest does."""

import os
from unittest import TextTestResult

from django.test.runner import DiscoverRunner


def database(name):
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "USER": os.environ["PGUSER"],
        "PASSWORD": os.environ["PGPASSWORD"],
        "NAME": name,
        "TEST": {"NAME": name},
    }


DATABASES = {"default": database("suite"), "other": database("suite_other")}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
SECRET_KEY = "of the tests"
TEST_RUNNER = "suite_of_django.Runner"
USE_TZ = False


class Result(TextTestResult):
    def addSuccess(self, test):
        super().addSuccess(test)
        print("PASSED", test.id(), flush=True)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        print("FAILED", test.id(), flush=True)

    def addError(self, test, err):
        super().addError(test, err)
        print("ERROR", test.id(), flush=True)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            print("FAILED", test.id(), flush=True)


class Runner(DiscoverRunner):
    def get_resultclass(self):
        return Result
