"""`manage.py makemessages`, which also finds texts by the second names that this code gives to gettext."""

from django.core.management.commands import makemessages


class Command(makemessages.Command):
    xgettext_options = [
        *makemessages.Command.xgettext_options,
        "--keyword=_now",
        "--keyword=_n:1,2",
    ]
