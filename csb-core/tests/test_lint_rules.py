"""What the validator finds: a source, and every finding that it must have, and no other."""

from __future__ import annotations

import pytest

from csb_core.lint import Declared, Validator
from csb_core.lint.rulebook import rulebook

ENTRY = "\n\ndef transform(data):\n    return data\n"
MAIN = "\n\ndef main(params):\n    return params\n"

#: Each snippet stands before a sound entry point; `rule:line:col`, in the order of the source.
SNIPPETS: dict[str, tuple[str, str]] = {
    # V1: nothing runs while it is looked at; what would run at import is told.
    "a call in a decorator": ("@print(1)\ndef f():\n    pass", ""),
    "a call at module level": ("print(1)", "ENT011:1:1"),
    "eval in a default": ("def f(x=eval('1')):\n    return x", "FUN001:1:9"),
    "eval in an annotation": ("def f(x: eval('1')):\n    return x", "FUN001:1:10"),
    "eval in an f-string": ("x = f\"{eval('1')}\"", "FUN001:1:8"),
    "eval in a class body": ("class A:\n    x = eval('1')", "FUN001:2:9"),
    "a default that hides the builtin it means": (
        "def f(eval=eval):\n    return eval",
        "FUN001:1:12",
    ),
    # V2: imports.
    "__import__": ("x = __import__('os')", "FUN001:1:5"),
    "importlib": ("import importlib", "IMP001:1:1"),
    "importlib's own function": ("from importlib import import_module", "IMP001:1:1"),
    "importlib.util": ("import importlib.util as u", "IMP001:1:1"),
    "relative import": ("from . import x", "IMP005:1:1"),
    "relative import from above": ("from ..a import x", "IMP005:1:1"),
    "star import": ("from math import *", "IMP006:1:1"),
    "os in a transformer": ("import os", "IMP002:1:1"),
    "subprocess": ("import subprocess", "IMP001:1:1"),
    "socket": ("import socket as s", "IMP001:1:1"),
    "urllib.request": ("import urllib.request", "IMP001:1:1"),
    "urllib.request by from": ("from urllib import request", "IMP002:1:1 IMP001:1:20"),
    "urllib.request by its neighbour": (
        "import urllib.parse\nx = urllib.request.urlopen",
        "IMP001:2:5",
    ),
    "private module": ("import _ctypes", "IMP001:1:1"),
    "no such package": ("import leftpad", "IMP004:1:1"),
    "import in a function": ("def f():\n    import pickle", "IMP001:2:5"),
    "two imports in one line": ("import json, gc, marshal", "IMP001:1:1 IMP001:1:1"),
    "a module of a module": ("import json\nx = json.codecs", "IMP007:2:5"),
    "a module of a module, imported": ("from json import codecs", "IMP007:1:18"),
    "a private module of a module": ("import random\nx = random._os", "IMP007:2:5"),
    "a submodule's module": ("import json\nx = json.decoder.re", "IMP007:2:5"),
    "sys.modules": ("import sys\nx = sys.modules['os']", "IMP009:2:5"),
    "sys.modules, imported": ("from sys import modules as m", "IMP009:1:17"),
    "sys._getframe": ("import sys\nx = sys._getframe(0)", "DUN002:2:5 IMP009:2:5"),
    "a module as a value": ("import json\nx = [json]", "IMP008:2:6"),
    "a module aliased": ("import random as r\ny = r\nz = y._os", "IMP008:2:5"),
    "a module below one that is allowed": ("import email.utils\nx = email.utils.os", "IMP007:2:5"),
    "the same, imported": ("from email.utils import os", "IMP007:1:25"),
    "the same, from its package": ("from email import utils\nx = utils.os", "IMP007:2:5"),
    "the same, used above its import": (
        "def f():\n    return json.tool.argparse\nimport json.tool",
        "IMP007:2:12",
    ),
    "a private module below one": ("from zoneinfo._tzpath import sysconfig",
                                   "IMP007:1:1 IMP007:1:30"),
    "a module below one, aliased": ("import email.utils\nu = email.utils\nx = u.os",
                                    "IMP008:2:5"),
    "what lies below one": (
        ("import email.utils, email.mime.text, collections.abc\nfrom email.utils import parseaddr\n"
         "x = email.utils.formatdate, email.mime.text.MIMEText, collections.abc.Mapping"),
        "",
    ),
    "below what is refused": ("import logging.config.x", "IMP001:1:1"),
    # V3: attributes by name.
    "getattr of a made name": ("def f(x, y):\n    return getattr(x, y)", "FUN003:2:12"),
    "getattr of unpacked arguments": ("def f(x):\n    return getattr(*x)", "FUN003:2:12"),
    "getattr of a dunder": ("x = getattr(1, '__class__')", "DUN001:1:5 DUN010:1:16"),
    "setattr of a made name": ("def f(x, y):\n    setattr(x, y, 1)", "FUN003:2:5"),
    "reduce(getattr)": ("import functools\nx = functools.reduce(getattr, [])", "FUN004:2:22"),
    "attrgetter": ("import operator\nx = operator.attrgetter('a')", "FUN006:2:5 IMP009:2:5"),
    "attrgetter, imported": ("from operator import attrgetter as g", "FUN006:1:22 IMP009:1:22"),
    "attrgetter of a dotted dunder": (
        "from operator import attrgetter as g\nx = g('__call__.__globals__')",
        "FUN006:1:22 IMP009:1:22 DUN010:2:7",
    ),
    "methodcaller": ("from operator import methodcaller", "FUN006:1:22 IMP009:1:22"),
    "getattr of a name that is known": (
        "N = 'gi_code'\nx = getattr(1, N)",
        "DUN010:1:5 DUN002:2:5",
    ),
    "getattr of a harmless one": ("N = 'real'\nx = getattr(1, N), getattr(1, 'imag', 0)", ""),
    # V4: templates.
    "a template with a dunder": ("x = '{0.__globals__}'.format(1)", "DUN006:1:5"),
    "a template of a constant's": ("T = '{0.gi_frame}'\nx = T.format(1)", "DUN006:2:5"),
    "a template of a class's": (
        "class A:\n    T = '{a}'\n    def f(self):\n        return self.T.format(a=1)",
        "",
    ),
    "the same, set later": (
        ("class A:\n    T = '{a}'\n    def f(self, x):\n        self.T = x\n"
        "        return self.T.format(1)"),
        "DUN007:5:16",
    ),
    "a template bound twice": ("T = '{a}'\nT = open\nx = T.format(1)", "FUN002:2:5 DUN007:3:5"),
    "templates in the source": ("x = '{:>{w}} {a.b} {c[0]}'.format(1, w=2, a=3, c=[4])", ""),
    "a template that is not known": ("def f(t):\n    return t.format(1)", "DUN007:2:12"),
    "a template within a width": ("x = '{0:{1._a}}'.format(1, 2)", "DUN006:1:5"),
    "str.format": ("x = str.format('{0.a}', 1)", "DUN007:1:5"),
    "format handed about": ("x = '{}'.format", "DUN007:1:5"),
    "format_map": ("def f(t, d):\n    return t.format_map(d)", "DUN007:2:12"),
    "Formatter": ("import string\nx = string.Formatter()", "FUN006:2:5"),
    "Formatter.get_field": (
        "from string import Formatter\nx = Formatter().get_field('0.a', (1,), {})",
        "FUN006:1:20 DUN007:2:5",
    ),
    "UserString": ("from collections import UserString", "FUN006:1:25"),
    # V5: names made at run time.
    "concatenation": ("x = '__glob' + 'als__'", "DUN011:1:5"),
    "repetition": ("x = '_' * 2 + 'class' + '_' * 2", "DUN011:1:5"),
    "chr": ("x = chr(95) + chr(95) + 'class__'", "DUN011:1:5"),
    "join": ("x = ''.join(['__cl', 'ass__'])", "DUN011:1:5"),
    "join of codes": (
        "x = ''.join(map(chr, [103, 105, 95, 102, 114, 97, 109, 101]))",
        "DUN011:1:5",
    ),
    "decoded bytes": ("x = bytes([101, 118, 97, 108]).decode()", "DUN011:1:5"),
    "base64": ("import base64\nx = base64.b64decode('X19jbGFzc19f')", "DUN011:2:5"),
    "hex": ("x = bytes.fromhex('5f5f636c6173735f5f').decode()", "DUN011:1:5"),
    "rot13": ("import codecs\nx = codecs.decode('__tybonyf__', 'rot13')", "DUN011:2:5"),
    "backwards": ("x = '__ssalc__'[::-1]", "DUN011:1:5"),
    "replaced": ("x = '--class--'.replace('-', '_')", "DUN011:1:5"),
    "lowered": ("x = '__CLASS__'.lower()", "DUN011:1:5"),
    "an unknown name behind underscores": ("def f(x):\n    return f'__{x}__'", "DUN011:2:12"),
    "the same by %": ("def f(x):\n    return '__%s__' % x", "DUN011:2:12"),
    "the same by +": ("def f(x):\n    return '__' + x + '__'", "DUN011:2:12"),
    "from a constant's parts": ("A = '__cla'\nx = A + 'ss__'", "DUN011:2:5"),
    "a dunder in a text": ("x = ['__subclasses__']", "DUN010:1:6"),
    "a frame's attribute in a text": ("x = {'tb_frame': 1}", "DUN010:1:6"),
    # V6: what exceptions keep.
    "AttributeError.obj": (
        "def f(x):\n    try:\n        x.a\n    except AttributeError as e:\n        return e.obj",
        "DUN008:5:16",
    ),
    "an exception under another name": (
        ("def f(x):\n    try:\n        x.a\n    except ValueError as e:\n        y = e\n"
        "    return y.obj"),
        "DUN008:6:12",
    ),
    "an exception in __exit__": (
        "class A:\n    def __exit__(self, kind, error, trace):\n        return error.obj",
        "DUN008:3:16",
    ),
    "obj of what is no exception": ("def f(x):\n    return x.obj", ""),
    "ImportError.name_from": ("def f(e):\n    return e.name_from", "DUN002:2:12"),
    "a pattern that takes obj": (
        "def f(e):\n    match e:\n        case AttributeError(obj=x):\n            return x",
        "DUN008:3:14",
    ),
    "a pattern that takes a class": (
        "def f(e):\n    match e:\n        case object(__class__=x):\n            return x",
        "DUN001:3:14",
    ),
    # V7: frames.
    "gi_frame": ("def f(g):\n    return g.gi_frame", "DUN002:2:12"),
    "cr_frame": ("def f(g):\n    return g.cr_frame", "DUN002:2:12"),
    "ag_frame": ("def f(g):\n    return g.ag_frame", "DUN002:2:12"),
    "tb_frame": ("def f(t):\n    return t.tb_frame.f_back", "DUN002:2:12 DUN002:2:12"),
    "f_builtins": ("def f(t):\n    return t.f_builtins", "DUN002:2:12"),
    "__traceback__": ("def f(e):\n    return e.__traceback__", "DUN001:2:12"),
    # V8
    "except*": ("try:\n    pass\nexcept* ValueError:\n    pass", "DUN009:1:1"),
    # V9: printers, help, modules.
    "license": ("x = license._Printer__filenames", "DUN001:1:5 FUN001:1:5"),
    "help": ("x = help", "FUN001:1:5"),
    "credits": ("x = credits", "FUN001:1:5"),
    "__builtins__": ("x = __builtins__", "DUN003:1:5"),
    "__loader__": ("x = __loader__", "DUN003:1:5"),
    # V10: classes.
    "__subclasses__": ("x = object.__subclasses__()", "DUN001:1:5"),
    "the way to all classes": (
        "x = ().__class__.__base__",
        "DUN001:1:5 DUN001:1:5",
    ),
    "mro": ("x = int.mro()", "DUN002:1:5"),
    "__init_subclass__": (
        "class A:\n    def __init_subclass__(cls):\n        pass", "DUN004:2:5",
    ),
    "__class_getitem__": ("class A:\n    __class_getitem__ = print", "DUN004:2:5"),
    "__set_name__": ("class A:\n    def __set_name__(self, o, n):\n        pass", "DUN004:2:5"),
    "__reduce__": ("class A:\n    def __reduce__(self):\n        return print, ()", "DUN004:2:5"),
    "__del__": ("class A:\n    def __del__(self):\n        pass", "DUN004:2:5"),
    "a metaclass": ("class M:\n    pass\nclass A(metaclass=M):\n    pass", "DUN005:3:19"),
    "a class of types": ("class M(type):\n    pass", "DUN005:1:9"),
    "type with three arguments": ("x = type('A', (), {})", "FUN005:1:5"),
    "a decorator that runs text": ("@exec\ndef f():\n    pass", "FUN001:1:2"),
    # V11: look-alike identifiers are what the parser makes of them.
    "full-width eval": ("x = \uff45val('1')", "FUN001:1:5 SYN005:1:5"),
    "mathematical exec": ("x = \U0001d4ee\U0001d501\U0001d4ee\U0001d4ec", "FUN001:1:5 SYN005:1:5"),
    "full-width attribute": ("x = (1).\uff47i_frame", "DUN002:1:5 SYN005:1:9"),
    "a column after wide characters": ("x = 'äöü€', eval", "FUN001:1:13"),
    # V12: scopes.
    "eval under another name": ("e = eval\nx = e('1')", "FUN001:1:5"),
    "walrus": ("if (e := eval):\n    pass", "FUN001:1:10"),
    "lambda": ("f = lambda: exec('1')", "FUN001:1:13"),
    "comprehension's first iterable": ("x = [eval for eval in [eval]]", "FUN001:1:24"),
    "eval unbound again": ("eval = 1\ndel eval\nx = eval", "FUN007:1:1 FUN007:2:5 FUN001:3:5"),
    "global": ("def f():\n    global eval\n    return eval", "FUN001:3:12"),
    "global in a function of one that binds it": (
        "def f(eval):\n    def g():\n        global eval\n        return eval\n    return g",
        "FUN001:4:16",
    ),
    "class scope": ("class A:\n    exec = exec", "FUN007:2:5 FUN001:2:12"),
    "import as a builtin": ("from math import sqrt as eval", ""),
    "parameters may be called as they like": ("def f(input, vars):\n    return input, vars", ""),
    "a local may be called as it likes": ("def f(x):\n    compile = x\n    return compile", ""),
    "a closure's too": ("def f(help):\n    return lambda: help", ""),
    # V13
    "pickle": ("import pickle", "IMP001:1:1"),
    "marshal": ("from marshal import loads", "IMP001:1:1"),
    "codeop": ("import codeop", "IMP001:1:1"),
    "FunctionType": ("import types\nx = types.FunctionType", "IMP009:2:5"),
    "CodeType": ("from types import CodeType", "IMP009:1:19"),
    # V14, V15
    "ctypes": ("import ctypes.util", "IMP001:1:1"),
    "memoryview": ("x = memoryview(b'')", "FUN008:1:5"),
    "exec of a made tree": (
        "import ast\nexec(compile(ast.Module([], []), '', 'exec'))",
        "IMP001:1:1 ENT011:2:1 FUN001:2:1 FUN001:2:6",
    ),
    # Files.
    "open in a transformer": ("x = open", "FUN002:1:5"),
    "io.open": ("import io\nx = io.open", "FUN002:2:5"),
    "io.open, imported": ("from io import open as o", "FUN002:1:16"),
    # Loops and recursion.
    "while True": ("def f():\n    while True:\n        pass", "LOP001:2:5"),
    "while 1": ("def f(x):\n    while 1:\n        x += 1", "LOP001:2:5"),
    "while not False": ("def f():\n    while not False:\n        pass", "LOP001:2:5"),
    "a break of another loop": (
        "def f(x):\n    while True:\n        for y in x:\n            break",
        "LOP001:2:5 COST004:3:9",
    ),
    "a return of another function": (
        "def f():\n    while True:\n        def g():\n            return 1", "LOP001:2:5",
    ),
    "while True with a break": ("def f(x):\n    while True:\n        if x:\n            break", ""),
    "while True that yields": ("def f():\n    while True:\n        yield 1", ""),
    "a condition that stays": ("def f(x):\n    while x > 1:\n        print(1)", "LOP002:2:5"),
    "a condition that changes": ("def f(x):\n    while x > 1:\n        x -= 1", ""),
    "a stack that is emptied": ("def f(x):\n    while x:\n        x.pop()", ""),
    "count": (
        "import itertools\ndef f():\n    for x in itertools.count():\n        print(x)",
        "LOP003:3:5",
    ),
    "cycle, imported": (
        "from itertools import cycle as c\ndef f():\n    for x in c([1]):\n        print(x)",
        "LOP003:3:5",
    ),
    "a list of repeat": ("import itertools\nx = list(itertools.repeat(1))", "LOP003:2:5"),
    "repeat with a number": ("import itertools\nx = list(itertools.repeat(1, 3))", ""),
    "iter of what is always the same": (
        "def f():\n    for x in iter(int, 1):\n        print(x)",
        "LOP003:2:5",
    ),
    "iter of what may change": ("def f(x):\n    for y in iter(x.read, b''):\n        print(y)", ""),
    "count beside what ends": ("import itertools\nx = dict(zip('ab', itertools.count()))", ""),
    "recursion without an end": ("def f(x):\n    return f(x + 1)", "LOP004:2:12"),
    "recursion with an end": ("def f(x):\n    return f(x - 1) if x else 0", ""),
    "a list that grows": ("def f(x):\n    for y in x:\n        x.append(y)", "LOP005:3:9"),
    # V16 and size.
    "a tower of powers": ("x = 9**9**9", "CPX004:1:5"),
    "pow": ("x = pow(9, 10**9)", "CPX004:1:5"),
    "a shift": ("x = 1 << 10**10", "CPX004:1:5"),
    "a repeated text": ("x = 'a' * 10**9", "CPX004:1:5"),
    "a repeated list": ("x = 10**10 * [0]", "CPX004:1:5"),
    "so many bytes": ("x = bytearray(10**10)", "CPX004:1:5"),
    "a list of a range": ("x = list(range(10**10))", "CPX004:1:5"),
    "a width": ("x = f'{1:>1000000000}'", "CPX004:1:5"),
    "a width by %": ("x = '%1000000000d' % 1", "CPX004:1:5"),
    "padding": ("x = 'a'.ljust(10**10)", "CPX004:1:5"),
    "factorial": ("import math\nx = math.factorial(10**8)", "CPX004:2:5"),
    "a number that is known by name": ("N = 10**10\nx = [0] * N", "CPX004:2:5"),
    "what fits": ("x = 2**64, 'a' * 100, [0] * 1000, bytes(4096), 1024 * 1024", ""),
    # Patterns.
    "nested repetition": ("import re\nx = re.compile(r'(a+)+$')", "CPX005:2:16"),
    "nested, in a group": ("import re\nx = re.search(r'(?:(?:\\w+)\\s*)*x', 'y')", "CPX005:2:15"),
    "nested, by a constant": ("import re\nP = '([a-z]*)*'\nx = re.match(P, '')", "CPX005:3:14"),
    "a domain": ("import re\nx = re.compile(r'(?:[a-z0-9-]+\\.)+[a-z]{2,}')", ""),
    "an address": ("import re\nx = re.compile(r'(?:\\d{1,3}\\.){3}\\d{1,3}')", ""),
    "a quoted text": ('import re\nx = re.compile(r\'"(?:[^"\\\\]|\\\\.)*"\')', ""),
    "no pattern": ("import re\nx = re.compile('(')", "CPX007:2:16"),
    # Secrets: none is repeated, see below.
    "an access key": ("K = 'AKIAQ3EGR2WYHN5PZ7LM'", "SEC001:1:6"),
    "an access key in a remark": ("x = 1  # AKIAQ3EGR2WYHN5PZ7LM", "SEC001:1:10"),
    "an example of an access key": ("K = 'AKIAIOSFODNN7EXAMPLE'", ""),
    "a pattern for access keys": ("import re\nx = re.compile('AKIA[A-Z0-9]{16}')", ""),
    "a private key": (
        "K = '''-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAtc0kV7Yd2\n'''", "SEC002:1:8",
    ),
    "a private key's first line": ("K = '-----BEGIN RSA PRIVATE KEY-----'", ""),
    "a bearer token": ("H = 'Bearer abcdefgh12345678abcdefgh'", "SEC003:1:6"),
    "a signed token": ("J = 'eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSM'", "SEC003:1:6"),
    "a token of ours": ("T = 'csb_ab12cd34ef56_Zx9Zx9Zx9Zx9Zx9Zx9'", "SEC004:1:6"),
    "a token of a forge": ("T = 'ghp_" + "a1B2" * 9 + "'", "SEC005:1:6"),
    "a password in an address": ("U = 'postgresql://me:s3cr3tpw@db/x'", "SEC006:1:6"),
    "a password": ("password = 'tr0ub4dor&3'", "SEC007:1:12"),
    "a password in a dict": ("x = {'db_password': 'tr0ub4dor&3'}", "SEC007:1:21"),
    "a password as an argument": ("x = dict(api_key='a8f5f167f44f4964')", "SEC007:1:18"),
    "a password as a default": (
        "def f(x, secret='a8f5f167f44f4964'):\n    return x",
        "SEC007:1:17",
    ),
    "a key in two halves": ("K = 'AKIAQ3EGR2' 'WYHN5PZ7LM'\n", "SEC001:1:5"),
    "a key of two constants": ("K = 'AKIAQ3EGR2' + 'WYHN5PZ7LM'\n", "SEC001:1:5"),
    "what a secret is called": (
        "PASSWORD_FIELD = 'user_password1'\nTOKEN_HEADER = 'X-Token-2'",
        "",
    ),
    "a word about a password": ("password = 'password'\nx = {'token': 'bearer token'}", ""),
    "a text as random as a key": ("K = 'wJalrXUtnFEMIaK7MDENGbPxRfiCYzVbQ2hT8sLd'", "SEC008:1:5"),
    # The text itself.
    "an encoding": ("# -*- coding: rot13 -*-\nx = 1", "SYN003:1:15"),
    "the encoding that it has": ("# -*- coding: utf-8 -*-\nx = 1", ""),
    "an invisible character": ("x = 'a\u202eb'", "SYN004:1:7"),
    "the same as an escape": ("x = 'a\\u202eb'", ""),
    "an identifier with an umlaut": ("größe = 1", "SYN005:1:1"),
    # Cost.
    "sleep": ("import time\ndef f():\n    time.sleep(60)", "COST001:1:1"),
    "a nap": ("import time\ndef f():\n    time.sleep(1)", ""),
    "doubling": ("def f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)", "COST003:1:1"),
    "cubic": (
        ("def f(a, b, c):\n"
        "    return [1 for x in a for y in b for z in c]"), "COST001:1:1 COST003:2:12",
    ),
    "quadratic": (
        "def f(a):\n    for x in a:\n        for y in a:\n            print(x, y)", "COST004:3:9",
    ),
    "a walk over parts of an item": (
        "def f(a):\n    for x in a:\n        for y in x['ys']:\n            print(y)", "",
    ),
    "loops of fixed length": (
        "def f():\n    return [x * y * z for x in range(3) for y in range(3) for z in (1, 2)]", "",
    ),
    # Complexity.
    "many paths": (
        "def f(x):\n" + "".join(f"    if x == {n}:\n        x = 1\n" for n in range(15)),
        "CPX001:1:1",
    ),
    "deep nesting": (
        "def f(x):\n" + "".join(f"{'    ' * n}if x:\n" for n in range(1, 8)) + "    " * 8 + "x = 1",
        "CPX002:8:29",
    ),
    "elif is no nesting": (
        "def f(x):\n    if x:\n        x = 1\n" + "    elif x:\n        x = 2\n" * 9, "",
    ),
    "a long function": ("def f(x):\n" + "    x += 1\n" * 100, "CPX003:1:1"),
    "very many nodes": ("x = [" + "1, " * 20_001 + "]", "CPX006:1:1"),
}  # fmt: skip

SCRIPTS: dict[str, tuple[str, str]] = {
    "files": ("import os\nfrom pathlib import Path\nx = os.listdir, open, Path", ""),
    "os.system": ("import os\nx = os.system('id')", "FUN006:2:5 IMP009:2:5"),
    "system under another name": ("from os import system as s", "FUN006:1:16 IMP009:1:16"),
    "os.environ": ("import os\nx = os.environ", "FUN006:2:5 IMP009:2:5"),
    "os.path": ("import os.path\nfrom os import path\nx = os.path.join, path.join", ""),
    "futures": ("from concurrent import futures\nimport concurrent.futures", ""),
    "logging's os": ("import logging\nx = logging.os", "IMP007:2:5"),
    "logging.handlers": ("import logging.handlers", "IMP001:1:1"),
}

WHOLE: dict[str, tuple[str, str, str]] = {
    "no entry": ("transformer", "x = 1", "ENT001:1:1"),
    "the other kind's entry": ("script", "def transform(data):\n    return 1", "ENT001:1:1"),
    "two parameters": ("transformer", "def transform(a, b):\n    return a", "ENT002:1:1"),
    "none": ("transformer", "def transform():\n    return 1", "ENT002:1:1"),
    "a required keyword": ("transformer", "def transform(data, *, x):\n    return x", "ENT002:1:1"),
    "optional ones": ("transformer", "def transform(data, x=1):\n    return x", "ENT009:1:1"),
    "any number": ("transformer", "def transform(*data):\n    return 1", "ENT009:1:1"),
    "another name": ("transformer", "def transform(x):\n    return x", "ENT010:1:15"),
    "async": ("transformer", "async def transform(data):\n    return 1", "ENT003:1:1"),
    "a generator": ("transformer", "def transform(data):\n    yield 1", "ENT004:1:1"),
    "a generator within": (
        "transformer", "def transform(data):\n    def g():\n        yield 1\n    return list(g())",
        "",
    ),
    "decorated": (
        "transformer", "import functools\n@functools.cache\ndef transform(data):\n    return 1",
        "ENT005:2:2",
    ),
    "twice": (
        "transformer",
        "def transform(data):\n    return 1\ndef transform(data):\n    return 2", "ENT006:3:1",
    ),
    "rebound": ("transformer", "def transform(data):\n    return 1\ntransform = 1",
                "ENT002:3:1 ENT006:3:1"),
    "conditional": ("script", "if 1 > 0:\n    def main(params):\n        return 1", "ENT007:2:5"),
    "a lambda": ("transformer", "transform = lambda data: data", ""),
    "a lambda with two": ("transformer", "transform = lambda a, b: a", "ENT002:1:1"),
    "imported": ("transformer", "from json import loads as transform", "ENT002:1:1"),
    "a class": ("transformer", "class transform:\n    pass", "ENT002:1:1"),
    "a method of that name": (
        "transformer", "class A:\n    def transform(self, data):\n        return data",
        "ENT001:1:1",
    ),
    "nothing returned": ("script", "def main(params):\n    print(params)", "ENT008:1:1"),
    "not Python": ("transformer", "def transform(data):\n    return (", "SYN001:2:12"),
    "indentation": ("transformer", "def transform(data):\nreturn 1", "SYN001:2:1"),
    "tabs and spaces": ("transformer", "if 1:\n        x = 1\n\ty = 2", "SYN001:3:1"),
    "only the compiler refuses it": ("transformer", "return 1" + ENTRY, "SYN001:1:1"),
    "the same, after wide characters": ("transformer", "x = 'äöü€'; return 1" + ENTRY,
                                        "SYN001:1:13"),
    "the parser, after wide characters": ("transformer", "x = 'äöü€' $" + ENTRY, "SYN001:1:12"),
    "a soft hyphen": ("transformer", "x = 'a\u00adb'" + ENTRY, "SYN004:1:7"),
    "a name that is not seen": ("transformer", "\u3164 = 1" + ENTRY, "SYN004:1:1 SYN005:1:1"),
    "a tag": ("transformer", "# a\U000e0041" + ENTRY, "SYN004:1:4"),
    "empty": ("transformer", " \n ", "SYN001:1:1"),
    "a null": ("transformer", "x = 1\ny = '\0'", "SYN006:2:6"),
    "half of a pair": ("transformer", "x = '\ud800'", "SYN006:1:6"),
    "a byte order mark": ("transformer", "\ufeffx = 1", "SYN001:1:1 SYN004:1:1"),
    "a form feed": ("script", "x = 1\n\f" + MAIN, ""),
    "carriage returns": ("transformer", "x = 1\r\ny = eval\r" + ENTRY, "FUN001:2:5"),
}  # fmt: skip


@pytest.fixture(scope="module")
def validator() -> Validator:
    return Validator()


def found(validator: Validator, source: str, kind: str) -> str:
    verdict = validator.validate(source, kind=kind, declared=Declared())
    return " ".join(
        f"{finding.rule}:{finding.line}:{finding.col}"
        for finding in verdict.validation_errors
        if not finding.rule.startswith("COM")
    )


@pytest.mark.parametrize(("snippet", "expected"), SNIPPETS.values(), ids=SNIPPETS)
def test_a_transformer(validator: Validator, snippet: str, expected: str) -> None:
    assert found(validator, snippet + ENTRY, "transformer") == expected


@pytest.mark.parametrize(("snippet", "expected"), SCRIPTS.values(), ids=SCRIPTS)
def test_a_script(validator: Validator, snippet: str, expected: str) -> None:
    assert found(validator, snippet + MAIN, "script") == expected


@pytest.mark.parametrize(("kind", "source", "expected"), WHOLE.values(), ids=WHOLE)
def test_a_whole_util(validator: Validator, kind: str, source: str, expected: str) -> None:
    assert found(validator, source, kind) == expected


def test_a_finding_never_repeats_a_secret(validator: Validator) -> None:
    secrets = {name: source for name, (source, told) in SNIPPETS.items() if "SEC" in told}
    assert len(secrets) > 10
    for source, _ in (SNIPPETS[name] for name in secrets):
        verdict = validator.validate(source + ENTRY, kind="transformer", declared=Declared())
        text = str(verdict.document())
        for literal in source.replace('"', "'").split("'")[1::2]:
            assert len(literal) < 12 or literal not in text


def test_every_rule_has_a_case() -> None:
    cases = " ".join(
        expected for *_, expected in [*SNIPPETS.values(), *SCRIPTS.values(), *WHOLE.values()]
    )
    elsewhere = {"SYN002", "SYN007", "IMP003", "IMP010", "CPX099", "CUT001", "COST002"}
    elsewhere |= {rule for rule in rulebook().rules if rule.startswith("COM")}
    untried = {rule for rule in rulebook().rules if f"{rule}:" not in cases}
    assert untried == elsewhere, "the others are tried in test_lint.py"
