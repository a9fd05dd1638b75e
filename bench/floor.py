"""What no client can do without: the same bytes from and to the same servers, by curl."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

from .local import BUCKET, OTHER, OURS
from .subjects import CHUNK_SIZE
from .worker import BenchError, Cost


class Floor:
    """curl reads the bytes from the one server and writes them to the other; the larger counts, because the two can overlap."""

    name = "floor"

    def __init__(self, place):
        self.place = place
        self.folder = Path(tempfile.mkdtemp(dir=place.folder))

    def curl(self, requests, answer=os.devnull):
        """Seconds that curl took for the requests, one after another on one connection, which is not counted: ours is kept."""
        certs = self.place.folder / "certs"
        tls = ["--cacert", certs / "ca.pem", "--cert", certs / "client.pem", "--key", certs / "client.key"]
        command = ["curl", "--disable"]
        for number, request in enumerate(requests):
            command += ["--next"] if number else []
            command += ["--silent", "--fail", *tls, "--header", "Expect:"]
            command += ["--output", answer, "--write-out", "%{time_total} %{time_connect} %{time_appconnect}\n", *request]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise BenchError(f"curl ended with {done.returncode}: {done.stderr}")
        times = [[float(value) for value in line.split()] for line in done.stdout.splitlines()]
        return sum(total - max(connected) for total, *connected in times)

    def parts(self, body):
        """The body's chunks as files."""
        files = []
        for number, start in enumerate(range(0, len(body), CHUNK_SIZE)):
            files.append(self.folder / f"part-{number}")
            files[-1].write_bytes(body[start : start + CHUNK_SIZE])
        return files

    def token(self, party):
        """A header that is good for one request."""
        authorization = f"Authorization: {party._session.auth.generate_token()}"
        return ["--header", authorization, "--header", "Accept: application/vnd.mesh.v2+json"]

    def put(self, url, file, *options):
        """A request that sends the file."""
        return ["--upload-file", file, *options, url]

    def receive(self, message_id, body, chunks):
        """Reading the message's chunks and writing them as parts."""
        files = self.parts(body) if chunks > 1 else [self.folder / "whole"]
        if chunks == 1:
            files[0].write_bytes(body)
        inbox = f"{self.place.mesh_url}/messageexchange/{OURS}/inbox/{message_id}"
        with self.place.party(OURS) as party:
            read = self.curl(
                [[*self.token(party), f"{inbox}/{number}" if number > 1 else inbox] for number in range(1, chunks + 1)]
            )
            party.acknowledge_message(message_id)
        s3, key = self.place.s3, f"inbound/{OURS}/{message_id}.dat"
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
        urls = [
            s3.generate_presigned_url(
                "upload_part", {"Bucket": BUCKET, "Key": key, "UploadId": upload, "PartNumber": number}, ExpiresIn=600
            )
            for number in range(1, len(files) + 1)
        ]
        write = self.curl([self.put(url, file) for url, file in zip(urls, files, strict=True)])
        found = s3.list_parts(Bucket=BUCKET, Key=key, UploadId=upload)["Parts"]
        etags = [{"ETag": part["ETag"], "PartNumber": part["PartNumber"]} for part in found]
        s3.complete_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload, MultipartUpload={"Parts": etags})
        return Cost(max(read, write), 0, 0)

    def transmit(self, key, body):
        """Reading the object and posting its chunks."""
        files = self.parts(body)
        url = self.place.s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": key}, ExpiresIn=600)
        read = self.curl([[url]])
        outbox = f"{self.place.mesh_url}/messageexchange/{OURS}/outbox"
        total = len(files)
        with self.place.party(OURS) as party:

            def post(number, url):
                headers = {"Mex-Chunk-Range": f"{number}:{total}", "Content-Type": "application/octet-stream"}
                if number == 1:
                    headers |= {"Mex-To": OTHER, "Mex-WorkflowID": "BENCH"}
                options = [option for name, value in headers.items() for option in ("--header", f"{name}: {value}")]
                return self.put(url, files[number - 1], "--request", "POST", *options, *self.token(party))

            answer = self.folder / "answer"
            write = self.curl([post(1, outbox)], answer)
            message_id = json.loads(answer.read_text())["message_id"]
            write += self.curl([post(number, f"{outbox}/{message_id}/{number}") for number in range(2, total + 1)])
        return Cost(max(read, write), 0, 0)
