"""The settings of the project: those of the page, and what each project has."""
from settings import *

SECRET_KEY = "only a journey"
INSTALLED_APPS = ["shop"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "Europe/Berlin"
