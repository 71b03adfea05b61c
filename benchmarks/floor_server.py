"""The floor for a warm check: a bare asyncio server that reads a line, stats the file and echoes JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sys


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        request = json.loads(line)
        status = os.stat(request["parameters"]["image"])
        writer.write(json.dumps({"v": 1, "id": request["id"], "result": {"size": status.st_size}}).encode() + b"\n")
        await writer.drain()
    writer.close()


async def main(path: str) -> None:
    server = await asyncio.start_unix_server(answer, path, limit=65536)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
