"""The floor for `eclctl check` as a whole process: open the image, send it, read the answer, exit by it."""

import json
import os
import socket
import sys

sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
fd = os.open(sys.argv[2], os.O_RDONLY | os.O_NONBLOCK)
request = {"v": 1, "id": "1", "method": "check", "parameters": {"image": sys.argv[2], "role": "rootfs", "fd": True}}
socket.send_fds(sock, [json.dumps(request).encode() + b"\n"], [fd])
answer = b""
while not answer.endswith(b"\n"):
    answer += sock.recv(65536)
result = json.loads(answer)["result"]
print(result["decision"])
sys.exit(result["decision"] != "allow")
