"""What moto leaves out, for every service. Each service's own gaps are in the patch_* modules.

The patches lean on moto's inside: moto is pinned in requirements.txt and test_patches.py has a test for each of them.
"""

import contextlib
import json
import logging
import sys

from moto.core.responses import BaseResponse
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType, Item
from moto.ssm.models import ParameterDict

log = logging.getLogger("stack")


def replace_everywhere(old, new):
    """Puts `new` where `old` was bound by a `from … import`, too."""
    for module in list(sys.modules.values()):
        if module is not None and getattr(module, "__name__", "").startswith("moto"):
            for name, value in list(vars(module).items()):
                if value is old:
                    setattr(module, name, new)


def list_parameters_while_they_change():
    """A listing of SSM's parameters fails where another request puts one meanwhile."""
    ParameterDict.__iter__ = lambda self: iter(list(self.keys()))


def keep_the_type_of_an_updated_attribute():
    """UpdateItem with AttributeUpdates, as Terraform sends it, makes a text of a boolean."""
    original = Item.update_with_attribute_updates

    def update_with_attribute_updates(self, attribute_updates):
        original(self, attribute_updates)
        for name, update in attribute_updates.items():
            if update.get("Action", "PUT") == "PUT" and "BOOL" in update.get("Value", {}):
                self.attrs[name] = DynamoType(update["Value"])

    Item.update_with_attribute_updates = update_with_attribute_updates


def query_while_items_change():
    """A query sorts by attributes that another request takes away meanwhile."""
    original = DynamoDBBackend.query

    def query(self, *args, **kwargs):
        for _ in range(10):
            with contextlib.suppress(KeyError):
                return original(self, *args, **kwargs)
        return original(self, *args, **kwargs)

    DynamoDBBackend.query = query


def refuse_unknown_actions():
    """AWS answers 400; moto answers 500, which Terraform and the SDKs retry for ten minutes."""
    original = BaseResponse.call_action

    def call_action(self):
        try:
            return original(self)
        except NotImplementedError as error:
            log.error("NOT-IMPLEMENTED %s: %s", self.service_name, error)
            body = {"__type": "NotImplemented", "message": f"The local AWS lacks this: {error}"}
            return 400, {"x-amzn-errortype": "NotImplemented"}, json.dumps(body)

    BaseResponse.call_action = call_action
