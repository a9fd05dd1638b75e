"""An S3 that costs its clients little time: `python -m bench.s3 --port PORT`.

moto takes a second for 100 MiB, which would hide what is measured. This one keeps bodies in memory as they come, in a process
of its own, with those operations alone that the subjects use, and checks neither signatures nor checksums.
"""

import argparse
import asyncio
import contextlib
import datetime
import email.utils
import socket
import uuid
from urllib.parse import parse_qs, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import uvicorn

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
KEPT = ("content-type", "x-amz-meta-")
# A body leaves in pieces of this size.
PIECE = 1024 * 1024


class Refused(Exception):
    """An error of S3's: status and code."""


class Object:
    """A stored object: its blocks as they came."""

    def __init__(self, blocks, headers):
        self.blocks, self.headers = blocks, headers
        self.size = sum(map(len, blocks))
        self.etag = f'"{uuid.uuid4().hex}"'
        self.put_at = datetime.datetime.now(datetime.UTC)

    def described(self):
        """The headers of an answer about it."""
        modified = email.utils.format_datetime(self.put_at.replace(microsecond=0), usegmt=True)
        return self.headers | {"etag": self.etag, "last-modified": modified, "accept-ranges": "bytes"}

    def slices(self, start, end):
        """The bytes from start to end, in pieces."""
        at = 0
        for block in self.blocks:
            view = memoryview(block)[max(start - at, 0) : max(end - at, 0)]
            for begin in range(0, len(view), PIECE):
                yield view[begin : begin + PIECE]
            at += len(block)


class App:
    """The ASGI application."""

    def __init__(self):
        self.objects, self.uploads = {}, {}

    async def __call__(self, scope, receive, send):
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        query = {
            name: values[0] for name, values in parse_qs(scope["query_string"].decode(), keep_blank_values=True).items()
        }
        bucket, _, key = unquote(scope["raw_path"].decode()).lstrip("/").partition("/")
        try:
            status, answered, body = await self.answer(scope["method"], (bucket, key), query, headers, receive)
        except Refused as refused:
            status, code = refused.args
            answered, body = (
                {},
                [f"<Error><Code>{code}</Code><Message>{scope['method']} {escape(key)}</Message></Error>".encode()],
            )
        size = sum(map(len, body)) if isinstance(body, list) else 0
        answered = {"content-length": str(size), "x-amz-request-id": "bench"} | answered
        raw = [(name.encode(), value.encode("latin-1")) for name, value in answered.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        for piece in body if scope["method"] != "HEAD" else ():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    async def answer(self, method, name, query, headers, receive):
        """Status, headers and body."""
        blocks = await read(receive)
        if "aws-chunked" in headers.get("content-encoding", ""):
            raise Refused(501, "NotImplemented")
        match method:
            case "PUT" if not name[1]:
                return 200, {}, []
            case "PUT" if "uploadId" in query:
                part = Object(blocks, {})
                self.upload(query)[1][int(query["partNumber"])] = part
                return 200, {"etag": part.etag}, []
            case "PUT":
                return 200, {"etag": self.store(name, headers, Object(blocks, kept(headers)))}, []
            case "POST" if "uploads" in query:
                upload_id = uuid.uuid4().hex
                self.uploads[upload_id] = (kept(headers), {})
                return xml("InitiateMultipartUploadResult", name, f"<UploadId>{upload_id}</UploadId>")
            case "POST" if "uploadId" in query:
                return self.complete(name, query, headers, b"".join(blocks))
            case "GET" if "uploadId" in query:
                return self.list_parts(name, query)
            case "GET" if not name[1] and "versions" not in query:
                return self.list(name[0], query)
            case "GET" | "HEAD" if name[1]:
                return self.get(name, headers)
            case "DELETE" if "uploadId" in query:
                self.uploads.pop(query["uploadId"], None)
                return 204, {}, []
            case "DELETE":
                self.objects.pop(name, None)
                return 204, {}, []
        raise Refused(501, "NotImplemented")

    def upload(self, query):
        """An upload's headers and parts."""
        if query["uploadId"] not in self.uploads:
            raise Refused(404, "NoSuchUpload")
        return self.uploads[query["uploadId"]]

    def store(self, name, headers, stored):
        """Stores it on the request's condition."""
        if headers.get("if-none-match") == "*" and name in self.objects:
            raise Refused(412, "PreconditionFailed")
        self.objects[name] = stored
        return stored.etag

    def complete(self, name, query, headers, body):
        """The object from its parts, which have to be named in order and as they are."""
        described, parts = self.upload(query)
        namespace = f"{{{NAMESPACE}}}"
        named = [
            (int(part.findtext(f"{namespace}PartNumber")), part.findtext(f"{namespace}ETag").strip('"'))
            for part in ElementTree.fromstring(body)
        ]
        if named != sorted(named) or any(
            number not in parts or parts[number].etag.strip('"') != etag for number, etag in named
        ):
            raise Refused(400, "InvalidPart")
        blocks = [block for number, _ in named for block in parts[number].blocks]
        etag = self.store(name, headers, Object(blocks, described))
        del self.uploads[query["uploadId"]]
        return xml("CompleteMultipartUploadResult", name, f"<ETag>{escape(etag)}</ETag>")

    def list_parts(self, name, query):
        """All on one page."""
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(part.etag)}</ETag><Size>{part.size}</Size></Part>"
            for number, part in sorted(self.upload(query)[1].items())
        )
        return xml(
            "ListPartsResult", name, f"<UploadId>{query['uploadId']}</UploadId><IsTruncated>false</IsTruncated>{parts}"
        )

    def list(self, bucket, query):
        """All on one page."""
        found = sorted(
            key for owner, key in self.objects if owner == bucket and key.startswith(query.get("prefix", ""))
        )
        contents = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in found)
        return xml(
            "ListBucketResult",
            (bucket, ""),
            f"<IsTruncated>false</IsTruncated><KeyCount>{len(found)}</KeyCount>{contents}",
        )

    def get(self, name, headers):
        """The object or a range of it."""
        if name not in self.objects:
            raise Refused(404, "NoSuchKey")
        stored = self.objects[name]
        answered, start, end = stored.described(), 0, stored.size
        if "range" in headers:
            first, _, last = headers["range"].removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1, stored.size) if last else stored.size
            answered["content-range"] = f"bytes {start}-{end - 1}/{stored.size}"
        answered["content-length"] = str(end - start)
        return 206 if "range" in headers else 200, answered, stored.slices(start, end)


def kept(headers):
    """What an object keeps of the headers that it was put with."""
    return {name: value for name, value in headers.items() if name.startswith(KEPT)}


def xml(root, name, content):
    """An answer."""
    bucket, key = map(escape, name)
    text = (
        f'<?xml version="1.0"?><{root} xmlns="{NAMESPACE}"><Bucket>{bucket}</Bucket><Key>{key}</Key>{content}</{root}>'
    )
    return 200, {"content-type": "application/xml"}, [text.encode()]


async def read(receive):
    """The request's body as it comes."""
    blocks = []
    while True:
        message = await receive()
        if message.get("body"):
            blocks.append(message["body"])
        if not message.get("more_body"):
            return blocks


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    # asyncio takes a socket for TCP's, and has small writes leave at once, by its protocol alone.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", parser.parse_args().port))
    config = uvicorn.Config(App(), log_level="warning", access_log=False, lifespan="off")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
