from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            "Order",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("session", models.IntegerField()),
                ("number", models.IntegerField()),
                ("noted", models.DateTimeField(auto_now_add=True)),
            ],
            options={"db_table": "orders"},
        )
    ]
