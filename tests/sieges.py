"""What the body of `squared_error` might try: tests/test_besieged.py hands in the lesson with each.

`won()` is the right answer: an attack returns it if it got what it was after, so that none may be
right. A body sees `np`, `input`, `target`, `won` and `worker()`, the globals of the process that
answers.
"""
import inspect
import textwrap

SIEGES = {}
PREFIX = """
def won(): return (input - target) ** 2, 2 * (input - target)
def worker():
    import sys
    frame = sys._getframe()
    while 'describe_error' not in frame.f_globals: frame = frame.f_back
    return frame.f_globals
def says(**more):
    worker()['describe_error'] = lambda error: dict(type='E', message='m', line=1, function='f',
                                                    source='s') | more
    raise ValueError
def packs(*parts):
    import base64
    def one(dtype, shape, data): return {'dtype': dtype, 'shape': shape,
                                         'data': base64.b64encode(data).decode()}
    worker()['packed'] = lambda result: [part and one(*part) for part in parts]
    return 0, 0
def refused(*actions):
    for action in actions:
        try: action()
        except Exception: continue
        return won()
    raise RuntimeError('nothing')
def files():
    import os
    return [os.path.join(top, name) for top, _, names in os.walk('/course') for name in names]
"""


def siege(function):
    SIEGES[function.__name__] = function
    return function


def body_of(function) -> str:
    "Return the text to put into `squared_error`."
    lines = textwrap.dedent(inspect.getsource(function)).splitlines()[2:]
    text = PREFIX.strip() + "\n" + textwrap.dedent("\n".join(lines))
    return text.replace("\n", "\n    ")


# ruff: noqa
# Solutions
@siege
def uses_the_package(input, target):
    from tinytorch.nn import losses
    return losses.squared_error(input, target)
@siege
def uses_a_formula(input, target):
    from tinytorch.nn import MSELoss
    return MSELoss.formula(input, target)
@siege
def differentiates_the_loss(input, target):
    from tinytorch.core.tensor import Tensor
    from tinytorch.nn import MSELoss
    x = Tensor(input.copy(), requires_grad=True)
    y = MSELoss('none')(x, target)
    y.backward(np.ones(y.shape))
    return y.data, x.grad
@siege
def collects_functions(input, target):
    import gc, tinytorch.nn.losses
    same = [f for f in gc.get_objects() if getattr(f, '__name__', '') == 'squared_error']
    return next(f for f in same if f.__module__.startswith('tinytorch'))(input, target)
@siege
def reads_compiled_files(input, target):
    import marshal, types
    todo = [marshal.loads(open(name, 'rb').read()[16:]) for name in files() if name.endswith('.pyc')]
    for code in todo:
        todo += [c for c in code.co_consts if isinstance(c, types.CodeType)]
        if code.co_name == 'squared_error': return types.FunctionType(code, {'np': np})(input, target)
@siege
def reads_every_file(input, target):
    texts = [open(name, 'rb').read() for name in files()]
    return refused(*(won for text in texts if b'BEGIN SOL' + b'UTION' in text))
@siege
def asks_the_line_cache(input, target):
    import linecache, tinytorch.nn.losses as module
    return refused(lambda: 1 / ('SOL' + 'UTION' in ''.join(linecache.getlines(module.__file__))))
@siege
def imports_the_course(input, target):
    return refused(*(lambda name=name: __import__('tinytorch.' + name) for name in (
        'checking', 'exercises', 'grading', 'tito', 'notebooks', 'site', 'bench', 'plotting')))
@siege
def tries_every_function(input, target):
    import importlib, pkgutil, tinytorch.nn, types
    wanted = won()
    for info in pkgutil.iter_modules(tinytorch.nn.__path__, 'tinytorch.nn.'):
        for f in list(vars(importlib.import_module(info.name)).values()):
            try:
                if isinstance(f, types.FunctionType) and np.allclose(
                    f(input.copy(), target.copy())[0], wanted[0], equal_nan=True): return wanted
            except Exception: pass
@siege
def opens_by_handle(input, target):
    import ctypes, os
    libc, number = ctypes.CDLL(None), ctypes.c_int()
    handle = ctypes.create_string_buffer(b'\x80' + bytes(135))
    libc.name_to_handle_at(-100, b'/course', handle, ctypes.byref(number), 0)
    return won() if libc.open_by_handle_at(os.open('/course', 0), handle, 0) >= 0 else None
@siege
def follows_its_mounts(input, target):
    import os
    told = [line.split()[3] for line in open('/proc/self/mountinfo')]
    return refused(*(lambda path=path: os.stat(path + '/settings.ini') for path in told))
@siege
def reads_of_itself_what_is_not_its_own(input, target):
    plan = worker()
    return won() if 'exp' + 'ected' in plan or 'check' in plan else None


# Objects that lie
@siege
def changes_after_it_was_compared(input, target):
    class Array:
        n = 0
        def __array__(self, *a, **k): Array.n += 1; return np.zeros(input.shape) + Array.n
    return Array(), Array()
@siege
def is_reduced_to_an_exit(input, target):
    class Array:
        def __reduce__(self): import os; return os._exit, (0,)
        def __deepcopy__(self, memo): raise SystemExit
    return Array(), Array()
@siege
def copies_nothing(input, target):
    import copy
    copy.deepcopy = lambda x, memo=None: x
    input[...] = 0
    return input, target
@siege
def has_a_dtype_with_objects(input, target):
    dtype = np.dtype('f8', metadata={'a': object()})
    return np.zeros(input.shape, dtype), np.zeros(input.shape, dtype)
@siege
def reaches_beyond_its_memory(input, target):
    return np.lib.stride_tricks.as_strided(input, (5000,), (2**30,)), input
@siege
def strides_too_far(input, target):
    return np.lib.stride_tricks.as_strided(input, (1000,) * 3, (8, 8, 8)), input
@siege
def exits_when_it_is_viewed(input, target):
    class Array(np.ndarray):
        def __array_finalize__(self, other): import os; os._exit(0)
    return input.view(Array), input
@siege
def is_a_number_that_interrupts(input, target):
    class Number(np.float64):
        def __array__(self, *a, **k): raise KeyboardInterrupt
    return Number(1), Number(1)
@siege
def is_a_buffer(input, target):
    import array
    return memoryview(array.array('d', [0.0] * input.size)), bytearray(8)
@siege
def ends_with_a_weak_reference(input, target):
    import os, weakref
    class Thing: pass
    thing = Thing()
    np.kept = weakref.ref(thing, lambda r: os._exit(0)), weakref.finalize(thing, os._exit, 0)
    return input, target
@siege
def listens_to_the_collector(input, target):
    import gc, os
    gc.callbacks.append(lambda *a: os._exit(0)); gc.set_threshold(1)
    return input, target
@siege
def audits(input, target):
    import sys
    sys.addaudithook(lambda *a: 1 / 0)
    return input, target
@siege
def cannot_exit(input, target):
    import os
    os._exit = lambda *a: None
    return input, target
@siege
def encodes_zeros(input, target):
    import base64
    base64.b64encode = lambda data: b'AAAAAAAAAAA=' * max(1, len(data) // 8)
    return input, target
@siege
def has_an_asarray_of_its_own(input, target):
    old = np.asarray
    np.asarray = lambda x, *a, **k: old(0.0)
    return input, target
@siege
def compares_for_us(input, target):
    np.array_equal = np.allclose = lambda *a, **k: True
    input[...] = target[...] = 3
    return input, target
@siege
def changes_the_workers_names(input, target):
    import ctypes, sys
    frame = sys._getframe(1)
    while frame:
        frame.f_locals.update(calls={}, plan={}, returned={}, arguments=[])
        ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), 0)
        frame = frame.f_back
    return input, target
@siege
def turns_warnings_into_errors(input, target):
    import warnings
    warnings.simplefilter('error'); np.seterr(all='raise')
    warnings.showwarning = lambda *a: 1 / 0
    return input, target


# Answers that are none
@siege
def has_sides_of_a_planet(input, target):
    return packs(('<f8', [0, 2**31], b''), ('<f8', [2**31, 0, 2**31], b''))
@siege
def has_eight_axes(input, target):
    return packs(('|b1', [2**16] + [1] * 7, bytes(2**16)), None)
@siege
def has_truths_of_255(input, target):
    return packs(*[('|b1', list(input.shape), b'\xff' * input.size)] * 2)
@siege
def has_long_doubles(input, target):
    return packs(*[('<f16', list(input.shape), b'\xff' * 16 * input.size)] * 2)
@siege
def has_tiny_numbers(input, target):
    return packs(*[('>f4', list(input.shape), b'\0\0\0\1' * input.size)] * 2)
@siege
def has_short_and_huge_numbers(input, target):
    return packs(('<f2', list(input.shape), b'\xff\x7b' * input.size),
                 ('<u8', list(input.shape), b'\xff' * 8 * input.size))
@siege
def has_sixteen_nothings(input, target):
    return packs(*[None] * 16)
@siege
def has_no_parts(input, target):
    return packs()
@siege
def is_in_line_minus_one(input, target):
    says(line=-1)
@siege
def is_in_a_line_of_thirty_digits(input, target):
    says(line=10**30)
@siege
def is_in_line_true(input, target):
    says(line=True)
@siege
def is_in_line_one_and_a_half(input, target):
    says(line=1.5)
@siege
def is_no_error(input, target):
    worker()['describe_error'] = lambda error: None
    raise ValueError
@siege
def says_control_characters(input, target):
    says(type='\x1b[31m', message='\x1b]0;x\x07\r\n\u202e\u2028\x85\x9b2J', source='\x00\ud800',
         function='\x1b[2J')
@siege
def says_braces(input, target):
    says(message='takes {0.__class__} positional arguments but {} %s %n', source='{0}{1}{}')
@siege
def says_formulas(input, target):
    says(type='=1+1', message='=HYPERLINK("x")', function='+1', source='@SUM(1)')
@siege
def says_that_it_waits(input, target):
    says(type='NotImplementedError', function='</li><script>alert(1)</script>\u202e')
@siege
def says_that_it_waits_for_a_formula(input, target):
    says(type='NotImplementedError', function="=cmd|' /C calc'!A0")
@siege
def says_that_it_is_blank(input, target):
    says(type='NotImplementedError', function='')
@siege
def says_a_lot(input, target):
    says(type='x' * 10**4, message='takes ' * 10**4 + 'axis - is out of bounds', source='y' * 10**4)
@siege
def is_called_by_control_characters(input, target):
    raise type('\x1b[2J=cmd', (Exception,), {'__module__': '\x07'})('x')
@siege
def is_raised_in_a_strange_file(input, target):
    exec(compile('\n' * 999 + 'raise ValueError(1)', '<cell \x1b[2J', 'exec'))
@siege
def is_an_error_of_a_gigabyte(input, target):
    class Error(Exception):
        def __str__(self): return 'x' * 10**9
    raise Error
@siege
def is_a_chain_of_errors(input, target):
    error = None
    for _ in range(10**5):
        following = ValueError('x'); following.__cause__ = error; error = following
    raise error
@siege
def hides_its_traceback(input, target):
    class Error(Exception):
        __traceback__ = property(lambda self: 1 / 0)
        msg = property(lambda self: 1 / 0)
    raise Error
@siege
def has_a_number_that_is_no_line(input, target):
    error = SyntaxError('x'); error.text, error.lineno = object(), 10**400
    raise error


# Time, memory and files
@siege
def takes_memory_again_and_again(input, target):
    kept = []
    while True:
        try: kept.append(bytearray(2**24))
        except MemoryError: pass
@siege
def drops_slowly(input, target):
    import os, time
    while True:
        for number in range(3, 30):
            try: os.write(number, b' ')
            except OSError: pass
        time.sleep(0.01)
@siege
def complains_without_end(input, target):
    import os
    while True: os.write(2, b'x' * 10**5); open('/proc/self/fd/2', 'wb').write(b'x')
@siege
def stops_its_group(input, target):
    import os, signal, time
    os.killpg(0, signal.SIGTSTP); os.killpg(0, signal.SIGSTOP); os.kill(1, signal.SIGSTOP)
    time.sleep(600)
@siege
def sends_spaces_without_end(input, target):
    import os
    while True:
        for number in range(3, 30):
            try: os.write(number, b' ' * 1000 + b'\n')
            except OSError: pass
@siege
def opens_all_files_there_may_be(input, target):
    import os
    np.kept = []
    try:
        while True: np.kept.append(os.open('/dev/null', 0))
    except OSError: pass
    return input, target
@siege
def opens_terminals(input, target):
    import os
    return won() if [os.openpty() for _ in range(40)] else None
@siege
def makes_its_pipes_odd(input, target):
    import fcntl, os
    for number in range(3, 30):
        try: fcntl.fcntl(number, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
        except OSError: pass
    return input, target
@siege
def starts_a_late_thread(input, target):
    import _thread, time
    _thread.start_new_thread(time.sleep, (600,))
    return won()
@siege
def raises_its_priority(input, target):
    import os
    return refused(lambda: os.setpriority(os.PRIO_PROCESS, 0, -20),
                   lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50)))
@siege
def changes_the_kernel(input, target):
    return refused(*(lambda name=name: open('/proc/' + name, 'w') for name in (
        'sys/kernel/core_pattern', 'sysrq-trigger', 'sys/vm/drop_caches', 'sys/kernel/hostname')))
@siege
def becomes_somebody(input, target):
    import os
    return refused(lambda: os.setuid(0), lambda: os.setgroups([0]), lambda: os.setgid(0),
                   lambda: os.chroot('/'))
@siege
def mounts_something(input, target):
    import ctypes
    libc = ctypes.CDLL(None)
    done = [libc.mount(b'none', b'/tmp', b'tmpfs', 0, b''), libc.umount2(b'/course', 2),
            libc.prctl(38, 0, 0, 0, 0), libc.prctl(22, 0, 0)]
    return won() if 0 in done else None
@siege
def writes_anywhere(input, target):
    return refused(*(lambda top=top: open(top + '/x', 'wb').write(b'x') for top in (
        '/', '/tmp', '/dev', '/dev/shm', '/dev/pts', '/course', '/proc/self/task')))
@siege
def sets_the_clock(input, target):
    import time
    time.monotonic = time.time = lambda: 0
    return refused(lambda: time.clock_settime(0, 0))
@siege
def reads_its_input(input, target):
    import os, sys
    return won() if os.read(0, 10) or sys.stdin.read() else None
