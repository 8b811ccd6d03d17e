"""Writes configparser.json: what Python's configparser makes of INI texts.

Run with Python 3.11: `python3.11 expected.py > configparser.json`.
"""

import configparser
import json
import random
import tempfile

WRITTEN = [
    "",
    "\n\n# nothing\n",
    "[broker]\nbootstrap.servers = localhost:9092\n",
    "[broker]\nBootstrap.Servers: localhost:9092\nSASL.Username=Me\n",
    "[broker]\na=b=c:d\nb:c=d\nc = : d\nd := e\n",
    "# comment\n; another\n[broker]\n  # indented comment\na = 1 # not a comment\nb = 2 ; neither\n",
    "[a]\nkey = first\n  second\n\tthird\nnext = x\n",
    "[a]\nkey = first\n\n  third\n\n\nnext = x\n",
    "[a]\nkey = first\n  # left out\n  third\n# left out too\n  fourth\nnext = x\n",
    "[a]\nkey =\n  first\n  second = third\n",
    "[a]\n  key = 1\n  other = 2\n    deeper\n  third = 3\nfourth = 4\n   fifth = 5\n",
    "[a]\n  key = 1\n  [b]\n  other = 2\n",
    "[a]\nkey = 1\n  [b]\nother = 2\n",
    "  [a]\n  key = 1\n [b]\n key = 2\n",
    "[a]\nkey\n",
    "[a]\nkey\n  deeper\nother\n",
    "[a]\n= value\n",
    "[a]\n= value\n  more\nx = 1\n",
    "[a]\nkey = \n",
    "[a]\nkey =",
    "[a]\nkey = 1\nkey = 2\n",
    "[a]\nkey = 1\nKEY : 2\n",
    "[a]\nkey = 1\n[b]\nkey = 2\n[a]\nother = 3\n",
    "[a]\n[a]\n",
    "key = 1\n[a]\n",
    "\n\n  key = 1\n[a]\n",
    "[]\nkey = 1\n",
    "[a]\n[]\nkey = 1\n",
    "[[a]]\nkey = 1\n",
    "[a] trailing\nkey = 1\n",
    "[a] = [b]\nkey = 1\n",
    "[ a ]\nkey = 1\n[a]\nkey = 2\n",
    "[a\nkey = 1\n",
    "[DEFAULT]\nx = 1\nY = 2\n[a]\nx = 3\n[b]\n",
    "[DEFAULT]\nx = 1\n[a]\nz = 0\n[DEFAULT]\ny = 2\n",
    "[DEFAULT]\nx = 1\n[a]\n[DEFAULT]\nx = 2\n",
    "[default]\nx = 1\n[a]\n",
    "[DEFAULT]\nhost = h\n[a]\nurl = http://%(host)s:80/%(Path)s\npath = p\n",
    "[a]\nx = 100%%\ny = %%(x)s\nz = %(x)s %%\n",
    "[a]\nx = 100%\n",
    "[a]\nx = %d\ny = ok\n",
    "[a]\nx = %(y)\ny = 1\n",
    "[a]\nx = %()s\n",
    "[a]\nx = %(y\ny = 1\n",
    "[a]\nx = %(nothing)s\n",
    "[a]\nx = %(x)s\n",
    "[a]\nx = %(y)s\ny = %(x)s\n",
    "[a]\nk0 = v\n" + "".join(f"k{i} = %(k{i - 1})s\n" for i in range(1, 14)),
    "[a]\nk0 = 1%%\n" + "".join(f"k{i} = %(k{i - 1})s\n" for i in range(1, 14)),
    "[a]\nx = %(y)s-%(y)s\ny = two\n  lines\n",
    "[a]\nx = %(a b)s\na b = c\n",
    "[a]\nx = $HOME\ny = ${HOME}\nz = a$b\n",
    "[a]\r\nkey = 1\r\nother = 2\r\n  more\r\n",
    "[a]\rkey = 1\rother = 2\r",
    "[a]\nkey = \"quoted\"\nother = 'single'\n",
    "[a]\n\u00a0\u00a0key = 1\nother\u2003= 2\u2003\n",
    "[a]\nkey = a\x0bb\n\x0c\nother = c\x1cd\x1c\n",
    "[\u00e4\u00f6]\n\u00c4 = \u00fc\n\u0130 = dotted\n\u03a3\u03a3 = sigma\n",
    "[a]\nkey = 1;2#3\n;x = 4\n#y = 5\n",
    "[a]\nrem = 1\nREM comment\n",
    "\ufeff[a]\nkey = 1\n",
    "[broker]\nbootstrap.servers=$LOCAL_KAFKA_BROKER_BOOTSTRAP_SERVERS\nsasl.mechanism=PLAIN\nsecurity.protocol=SASL_SSL\n\n"
    "[producer]\nbatch.size = 200000\nretries = 3\nlinger.ms = 100\ncompression.type = lz4\n"
    "key.serializer = StringSerializer\nvalue.serializer = DataFileChunkSerializer\n\n"
    "[consumer]\ngroup.id = create_new\nauto.offset.reset = earliest\nenable.auto.commit = False\n",
]

PIECES = [
    "[a]", "[b]", "[DEFAULT]", "[a", "]", "key", "Key", "other", "x", " = ", "=", ":", " : ", "value", "1", "\n", "\n", "\n", "\n  ",
    "\n\t", "\n ", "\n\n", "#", " # ", ";", "%", "%%", "%(key)s", "%(x)s", "%(other)s", "%(none)s", " ", "\r\n", "\n[a]\n", "\n[b]\n",
    "\nkey = ", "\nx: ", "\nother=",
]


def outcome(text):
    parser = configparser.ConfigParser()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/text.ini"
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        try:
            with open(path, encoding="utf-8") as file:
                parser.read_file(file)
        except configparser.Error as error:
            lines = [line for line, _ in error.errors] if type(error) is configparser.ParsingError else [error.lineno]
            return {"error": type(error).__name__, "lines": lines}
    sections = {}
    for section in parser.sections():
        sections[section] = {}
        for key in parser[section]:
            try:
                sections[section][key] = parser.get(section, key)
            except configparser.InterpolationError as error:
                sections[section][key] = {"error": type(error).__name__}
    return {"sections": sections}


def main():
    choose = random.Random(20)
    texts = list(WRITTEN)
    for _ in range(400):
        start = choose.choice(["[a]\n", "[a]\nkey = ", "[DEFAULT]\nx = 1\n[a]\n", ""])
        texts.append(start + "".join(choose.choice(PIECES) for _ in range(choose.randint(2, 14))))
    cases = [{"text": text, "python": outcome(text)} for text in texts]
    print("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]")


main()
