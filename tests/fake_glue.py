"""A Glue that keeps tables and partitions in memory, holds callers to the real service's limits, and fails when it is told to."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Mapping

from botocore.exceptions import ClientError

LIMITS = {"batch_create_partition": 100, "batch_update_partition": 100, "batch_delete_partition": 25, "batch_get_partition": 1000}
LONGEST_EXPRESSION = 2048
LONGEST_COMMENT = 255
PAGE = 1000
TABLE_INPUT = {
    "Name", "Description", "Owner", "LastAccessTime", "LastAnalyzedTime", "Retention", "StorageDescriptor", "PartitionKeys",
    "ViewOriginalText", "ViewExpandedText", "TableType", "Parameters", "TargetTable", "ViewDefinition",
}  # fmt: skip


def refused(code, message="refused", status=400):
    return ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Operation")


def _copy(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - our own, and a fifth of deepcopy's time


class FakeGlue:
    """The boto3 client's methods that are used; `trouble` are errors for the next calls, `item_trouble` for items of batches."""

    def __init__(self) -> None:
        self.tables: dict[str, dict] | None = None
        self.partitions: dict[str, dict[tuple, dict]] = {}
        self.calls: Counter[str] = Counter()
        self.trouble: list[Exception] = []
        self.item_trouble: dict[tuple, str] = {}
        self.before: dict[str, object] = {}
        """Name of a call -> what happens just before it."""

    def __getattribute__(self, name):
        found = object.__getattribute__(self, name)
        if name.startswith("_") or not callable(found):
            return found

        def call(**arguments):
            self.calls[name] += 1
            if self.trouble:
                raise self.trouble.pop(0)
            if name in self.before:
                self.before[name]()
            return _copy(found(**_copy(arguments)))

        return call

    def create_database(self, DatabaseInput):  # noqa: N803 - boto3's names, here and below
        if self.tables is not None:
            raise refused("AlreadyExistsException")
        assert DatabaseInput["Name"] == DatabaseInput["Name"].lower()
        self.tables = {}

    def get_table(self, DatabaseName, Name):  # noqa: ARG002, N803
        return {
            "Table": self._table(Name) | {"DatabaseName": "d", "VersionId": "7", "CatalogId": "1", "IsRegisteredWithLakeFormation": False}
        }

    def create_table(self, DatabaseName, TableInput):  # noqa: ARG002, N803
        if self.tables is None:
            raise refused("EntityNotFoundException", "Database not found")
        if TableInput["Name"] in self.tables:
            raise refused("AlreadyExistsException")
        self.tables[TableInput["Name"]] = self._checked(TableInput)
        self.partitions[TableInput["Name"]] = {}

    def update_table(self, DatabaseName, TableInput):  # noqa: ARG002, N803
        self._table(TableInput["Name"])
        self.tables[TableInput["Name"]] = self._checked(TableInput)

    def get_partitions(self, DatabaseName, TableName, MaxResults=PAGE, Expression="", NextToken="0"):  # noqa: ARG002, N803
        assert len(Expression) <= LONGEST_EXPRESSION
        assert MaxResults <= PAGE
        self._table(TableName)
        start = int(NextToken)
        found = [{"Values": list(values), **rest} for values, rest in sorted(self.partitions[TableName].items())]
        more = {"NextToken": str(start + MaxResults)} if start + MaxResults < len(found) else {}
        return {"Partitions": found[start : start + MaxResults], **more}

    def batch_create_partition(self, DatabaseName, TableName, PartitionInputList):  # noqa: ARG002, N803
        def create(values, item):
            if values in self.partitions[TableName]:
                return "AlreadyExistsException"
            self.partitions[TableName][values] = {name: value for name, value in item.items() if name != "Values"}
            return None

        return self._batch("batch_create_partition", TableName, PartitionInputList, "Values", "PartitionValues", create)

    def batch_update_partition(self, DatabaseName, TableName, Entries):  # noqa: ARG002, N803
        def update(values, item):
            if values not in self.partitions[TableName]:
                return "EntityNotFoundException"
            assert tuple(item["PartitionInput"]["Values"]) == values
            self.partitions[TableName][values] = {name: value for name, value in item["PartitionInput"].items() if name != "Values"}
            return None

        return self._batch("batch_update_partition", TableName, Entries, "PartitionValueList", "PartitionValueList", update)

    def batch_delete_partition(self, DatabaseName, TableName, PartitionsToDelete):  # noqa: ARG002, N803
        def delete(values, _item):
            return None if self.partitions[TableName].pop(values, None) else "EntityNotFoundException"

        return self._batch("batch_delete_partition", TableName, PartitionsToDelete, "Values", "PartitionValues", delete)

    def _batch(self, call, table, items, named, answered, do):
        assert 1 <= len(items) <= LIMITS[call], f"{call} takes 1 to {LIMITS[call]} items"
        self._table(table)
        errors = []
        for item in items:
            values = tuple(item[named])
            code = self.item_trouble.pop(values, None) or do(values, item)
            if code:
                errors.append({answered: list(values), "ErrorDetail": {"ErrorCode": code, "ErrorMessage": "no"}})
        return {"Errors": errors}

    def _table(self, name) -> dict:
        if self.tables is None or name not in self.tables:
            raise refused("EntityNotFoundException", f"Table {name} not found")
        return self.tables[name]

    def _checked(self, table: Mapping) -> dict:
        assert table.keys() <= TABLE_INPUT, table.keys() - TABLE_INPUT
        columns = [*table["StorageDescriptor"]["Columns"], *table["PartitionKeys"]]
        for column in columns:
            assert column["Name"] == column["Name"].lower()
            assert len(column.get("Comment", "")) <= LONGEST_COMMENT
        assert len({column["Name"] for column in columns}) == len(columns)
        return dict(table)
