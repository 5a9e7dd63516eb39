from django.db import models


class Order(models.Model):
    session = models.IntegerField()
    number = models.IntegerField()
    noted = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "orders"
