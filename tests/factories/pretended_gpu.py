"""A GPU for machines without one: tensors of main memory that claim to be on "cuda", with streams, events and graphs.

All numbers are real: what is sent to the pretended device is copied within main memory and computed with there, so that
a training on it takes every path that it would take on a GPU, and ends with the numbers of the CPU. What a GPU would
refuse, would have to wait for, or would get wrong where two streams meet, raises ``Hazard``:

* in an update, whatever makes the host wait for the device, sends it a tensor, or computes in bfloat16 outside of a
  network;
* at any time, an operation on tensors of both sides;
* memory that a stream reads, writes or gets anew without having waited for the stream that wrote or still reads it,
  pinned memory that is overwritten while it may be sent, and memory that a graph uses after it was freed.

Time is a vector clock for each stream and one for the host. Capturing a graph changes nothing, as on a GPU: what is
written in a capture is put back at its end, and what was made in it is not a number until a replay.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules import module as modules
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
MEMORY = 80 << 30
HALVES = (torch.bfloat16, torch.float16)
# Operations that read a tensor on the host without the dispatcher's knowledge.
TAKEN = {"numpy", "tolist", "__array__", "__dlpack__", "__repr__", "__format__", "__reduce_ex__", "data_ptr"}
# Operations of which a GPU gets a number of the host as a tensor, which is sent; others take it with the kernel.
SENT = {"copy_", "_to_copy", "where", "index_put", "index_put_", "_index_put_impl_", "cat", "stack", "lerp"}
# What PyTorch marks as data-dependent, except where that is said of one case only: see ``_waits``.
DEPENDENT = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}


OPTIMISERS = {"_fused_adam_", "_fused_adamw_", "_fused_sgd_"}


def _is_of_network(module: torch.nn.Module) -> bool:
    """A layer of PyTorch's, or a part of a network with a forward of its own, see ``Network.compute_in``."""
    return type(module).__module__.startswith("torch") or "forward" in vars(module)


class Hazard(AssertionError):
    """What would be slow, refused or wrong on a GPU."""


Clock = dict[int, int]


def _merge(clock: Clock, other: Clock) -> None:
    for number, time in other.items():
        clock[number] = max(clock.get(number, 0), time)


@dataclass(frozen=True)
class Moment:
    """When a stream did something."""

    stream: int
    time: int
    what: str

    def before(self, clock: Clock) -> bool:
        return clock.get(self.stream, 0) >= self.time


class Stream:
    """Operations in order; ``clock`` is what of all streams lies behind it."""

    machine: ClassVar[Machine]

    def __init__(self, device: object = None) -> None:
        self.number = next(self.machine.numbers)
        self.clock: Clock = {self.number: 0}
        self.graph: Graph | None = None

    def tick(self, what: str) -> Moment:
        self.clock[self.number] += 1
        return Moment(self.number, self.clock[self.number], what)

    def wait_stream(self, other: Stream) -> None:
        _merge(self.clock, other.clock)

    def wait_event(self, event: Event) -> None:
        _merge(self.clock, event.clock)

    def is_capturing(self) -> bool:
        return self.graph is not None

    def synchronize(self) -> None:
        self.machine.wait("Stream.synchronize")
        _merge(self.machine.host, self.clock)


class Event:
    """A moment of a stream, once it was recorded."""

    machine: ClassVar[Machine]

    def __init__(self, **options: object) -> None:
        self.clock: Clock = {}

    def record(self, stream: Stream | None = None) -> None:
        self.clock = dict((stream or self.machine.current).clock)

    def synchronize(self) -> None:
        if self.machine.threads == 0:  # another thread than the one that trains may wait
            self.machine.wait("Event.synchronize")
        _merge(self.machine.host, self.clock)


@dataclass
class Place:
    """A tensor of a graph, without keeping its memory alive unless the graph made it."""

    ref: StorageWeakRef
    made: torch.UntypedStorage | None
    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def tensor(self, what: str) -> Tensor:
        storage = self.made or torch.UntypedStorage._new_with_weak_ptr(self.ref.cdata)
        if storage is None:
            raise Hazard(f"A graph uses memory that was freed after its capture: {what}.")
        return torch.empty(0, dtype=self.dtype).set_(storage, self.offset, self.size, self.stride)


@dataclass
class Operation:
    """An operation of a graph, its tensors as places; ``made`` are those of its results that are new."""

    func: Any
    args: Any
    kwargs: Any
    made: list[Place | None]
    reads: set[int]
    writes: set[int]
    what: str


@dataclass
class Graph:
    """Operations that were captured, to be done again on the same memory."""

    operations: list[Operation] = field(default_factory=list)
    own: dict[int, torch.UntypedStorage] = field(default_factory=dict)
    before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = field(default_factory=dict)
    machine: ClassVar[Machine]

    def replay(self) -> None:
        self.machine.replays += 1
        with self.machine.aside(), torch.no_grad():
            for each in self.operations:
                back = lambda x, what=each.what: x.tensor(what) if isinstance(x, Place) else x  # noqa: E731
                args, kwargs = tree_map(back, (each.args, each.kwargs))
                results = tree_leaves(_execute(each.func, args, kwargs))
                for place, value in zip(each.made, results, strict=True):
                    if place is not None:
                        place.tensor(each.what).copy_(value)
                self.machine.launch(f"the replay of {each.what}", each.reads, each.writes, set())


def _execute(func: Any, args: Any, kwargs: Any) -> Any:
    if func.overloadpacket.__name__ in OPTIMISERS and isinstance(kwargs.get("lr"), Tensor):
        # What the kernel of a GPU asks for, which the CPU's does not.
        if kwargs["lr"].dtype is not torch.float32:
            raise Hazard("An optimiser's rate is not float32, which the kernel of a GPU misreads.")
        kwargs = kwargs | {"lr": kwargs["lr"].double()}
    return func(*args, **kwargs)


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return tensor.untyped_storage()


def _key(tensor: Tensor) -> int:
    return _storage(tensor)._cdata


def _tensors(*values: Any) -> list[Tensor]:
    return [each for each in tree_leaves(values) if isinstance(each, Tensor)]


def _where() -> str:
    """The nearest line that is neither PyTorch's nor ours."""
    frame = sys._getframe(1)
    while frame.f_back and ("/torch/" in frame.f_code.co_filename or frame.f_code.co_filename == __file__):
        frame = frame.f_back
    return f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"


def _device(value: Any) -> torch.device | None:
    """The device that an argument names, if it does."""
    if isinstance(value, str) and value.partition(":")[0] in ("cuda", "cpu"):
        return torch.device(value)
    return value if isinstance(value, torch.device) else None


class Machine:
    """The pretended device with its memory and its streams."""

    def __init__(self) -> None:
        self.numbers = itertools.count()
        self.kinds: dict[str, Any] = {
            kind.__name__: type(kind.__name__, (kind,), {"machine": self}) for kind in (Stream, Event, Graph)
        }
        self.default: Stream = self.kinds["Stream"]()
        self.current = self.default
        self.host: Clock = {}
        # By the address of a storage, of which a weak reference keeps the address from being given anew.
        self.memory: dict[int, StorageWeakRef] = {}
        self.owner: dict[int, Stream] = {}
        self.written: dict[int, Moment] = {}
        self.read: defaultdict[int, dict[int, Moment]] = defaultdict(dict)
        self.borrowed: defaultdict[int, dict[int, Moment]] = defaultdict(dict)
        self.recorded: set[tuple[int, int]] = set()
        self.pinned: dict[int, StorageWeakRef] = {}
        self.sending: dict[int, Moment] = {}
        self.calls: list[tuple[torch.device | None, Any]] = []
        self.initialised = self.in_update = self.is_aside = False
        self.in_network = self.in_backward = self.threads = 0  # how deep
        self.replays = self.waits = 0  # how many

    # Memory

    def holds(self, tensor: Tensor) -> bool:
        return _key(tensor) in self.memory

    def take(self, tensor: Tensor) -> None:
        """Count a new tensor among the device's."""
        key = _key(tensor)
        if key not in self.memory:
            self.memory[key] = StorageWeakRef(_storage(tensor))
            self.owner[key] = self.current
            if self.current.graph is not None:
                self.current.graph.own[key] = _storage(tensor)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Nothing of this is an operation of the device."""
        before, self.is_aside = self.is_aside, True
        try:
            yield
        finally:
            self.is_aside = before

    # Time

    def wait(self, what: str) -> None:
        """The host waits for the device."""
        self.waits += 1
        if self.in_update and not self.threads:
            raise Hazard(f"{what} makes the host wait for the device in an update: {_where()}.")
        if self.current.graph is not None:
            raise RuntimeError(f"operation not permitted when stream is capturing: {what}")

    def launch(self, what: str, reads: set[int], writes: set[int], fresh: set[int]) -> None:
        stream = self.current
        for key in [key for key in self.borrowed if fresh and self.owner[key] is stream]:
            if self.memory[key].expired():  # its memory may be what is given to this operation
                for use in self.borrowed.pop(key).values():
                    if not use.before(stream.clock):
                        raise Hazard(f"Memory is given anew to {what} while another stream may use it: {use.what}.")
        moment = stream.tick(what)
        for key in reads | writes:
            written = self.written.get(key)
            if written and not written.before(stream.clock):
                raise Hazard(f"{what} does not wait for {written.what}, of another stream.")
            if self.owner[key] is not stream and (key, stream.number) not in self.recorded:
                self.borrowed[key][stream.number] = moment
        for key in writes:
            for read in self.read.pop(key, {}).values():
                if not read.before(stream.clock):
                    raise Hazard(f"{what} writes what {read.what}, of another stream, may still read.")
            self.written[key] = moment
        for key in reads:
            self.read[key][stream.number] = moment

    # Operations

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Do one operation of PyTorch, on the device if any of its tensors or the call that it serves is there."""
        name, tensors = func.overloadpacket.__name__, _tensors(args, kwargs)
        ours, theirs = ([each for each in tensors if self.holds(each) == here] for here in (True, False))
        mutated = self._mutated(func, args, kwargs)
        if not ours and not self._made_here(tensors):
            for each in mutated:
                sending = self.sending.get(_key(each))
                if sending and not sending.before(self.host):
                    raise Hazard(f"Pinned memory is overwritten while it may be sent: {_where()}.")
            return func(*args, **kwargs)
        what, inputs, graph = f"{name} ({_where()})", {_key(each) for each in ours}, self.current.graph
        leaves = name == "_to_copy" and bool(self.calls) and self.calls[-1][0] == CPU
        if leaves or (name == "copy_" and not self.holds(args[0])) or self._waits(func, name, args):
            self.wait(what)
            self.launch(what, inputs, set(), set())
            _merge(self.host, self.current.clock)
            result = func(*args, **kwargs)
            for each in () if leaves else _tensors(result):
                if not any(each is one for one in theirs):
                    self.take(each)
            return result
        self._check_sent(what, name, args, kwargs, theirs)
        for each in mutated if graph is not None else ():
            if _key(each) not in graph.own:
                graph.before.setdefault(_key(each), (_storage(each), _storage(each).clone()))
        result = _execute(func, args, kwargs)
        fresh = {_key(each) for each in _tensors(result)} - inputs
        if not mutated and not fresh:  # a view
            return result
        for each in _tensors(result):
            self.take(each)
        self._check_precision(what, result)
        changed = {_key(each) for each in mutated}
        reads, writes = inputs - changed, changed if name.startswith("empty") else changed | fresh
        if graph is not None:
            made = [self._place(x, graph) if isinstance(x, Tensor) and _key(x) in fresh else None
                    for x in tree_leaves(result)]  # fmt: skip
            kept = tree_map(lambda x: self._place(x, graph) if isinstance(x, Tensor) else x, (args, kwargs))
            graph.operations.append(Operation(func, *kept, made, reads, writes, what))
            return result
        self.launch(what, reads, writes, fresh)
        for each in theirs:
            if _key(each) in self.pinned:
                self.sending[_key(each)] = Moment(self.current.number, self.current.clock[self.current.number], what)
        return result

    def _made_here(self, tensors: list[Tensor]) -> bool:
        """Whether what is made of no tensor of the device belongs there: by request, or in the course of a call."""
        asked, call = self.calls[-1] if self.calls else (None, ())
        if asked is not None:
            return asked.type == "cuda"
        return not tensors and any(map(self.holds, _tensors(call)))

    def _place(self, tensor: Tensor, graph: Graph) -> Any:
        if not self.holds(tensor):
            return tensor.detach().clone()  # a number that comes with the kernel
        key, ref = _key(tensor), StorageWeakRef(_storage(tensor))
        return Place(
            ref, graph.own.get(key), tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.storage_offset()
        )

    @staticmethod
    def _mutated(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
        given = dict(zip((each.name for each in func._schema.arguments), args, strict=False)) | kwargs
        changed = [each.name for each in func._schema.arguments if each.alias_info and each.alias_info.is_write]
        return _tensors([given.get(each) for each in changed])

    @staticmethod
    def _waits(func: Any, name: str, args: Any) -> bool:
        if name in INDEXED:
            return any(each is not None and each.dtype in (torch.bool, torch.uint8) for each in args[1])
        return bool(DEPENDENT & set(func.tags))

    def _check_sent(self, what: str, name: str, args: Any, kwargs: Any, theirs: list[Tensor]) -> None:
        """Raises for tensors of the host that cannot, or in an update should not, take part."""
        transfer = name in ("_to_copy", "copy_", "lift_fresh")
        waits = not (kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
        for each in theirs:
            if each.dim() == 0 and name not in SENT:
                continue  # a number that comes with the kernel
            if not (transfer or each.dim() == 0 or name in INDEXED):
                raise Hazard(f"{what} takes tensors of the device and of the host.")
            if waits and self.in_update:
                raise Hazard(f"{what} sends a tensor to the device in an update.")
            if waits and self.current.graph is not None:
                raise RuntimeError(f"operation not permitted when stream is capturing: {what}")

    def _check_precision(self, what: str, result: Any) -> None:
        outside = self.in_update and not (self.in_network or self.in_backward)
        if outside and any(each.dtype in HALVES for each in _tensors(result)):
            raise Hazard(f"{what} is computed in half precision outside of a network.")

    # What PyTorch's functions are told

    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        owner, name = getattr(func, "__self__", None), getattr(func, "__name__", "")
        if owner is Tensor.device and name == "__get__":
            return GPU if self.holds(args[0]) else func(*args)
        if owner is Tensor.is_cuda and name == "__get__":
            return self.holds(args[0])
        if name in ("device", "_parse_to"):  # which make no tensor of what they are given
            return func(*args, **kwargs)
        if name in TAKEN and self.holds(args[0]):
            self.wait(name)
        pin = kwargs.pop("pin_memory", False)
        asked = next((each for each in map(_device, (*args, *kwargs.values())) if each), None)
        if name in ("cpu", "cuda"):
            func, asked, args = Tensor.to, torch.device(name), (args[0], CPU)
        if func is Tensor.to:
            if len(args) > 1 and isinstance(args[1], Tensor):
                asked = GPU if self.holds(args[1]) else CPU
            if asked is not None and self.holds(args[0]) != (asked.type == "cuda"):
                kwargs["copy"] = True
        if asked is not None:
            args, kwargs = tree_map(lambda x: CPU if _device(x) else x, (tuple(args), kwargs))
            if name in ("tensor", "as_tensor") and asked.type == "cuda" and self.in_update:
                raise Hazard(f"torch.{name} sends a tensor to the device in an update: {_where()}.")
        self.calls.append((asked, (args, kwargs)))
        self.in_backward += name in ("backward", "grad")
        try:
            result = func(*args, **kwargs)
        finally:
            self.in_backward -= name in ("backward", "grad")
            self.calls.pop()
        if asked is not None and asked.type == "cuda":
            for each in _tensors(result):
                self.take(each)
        if pin:
            self.pinned[_key(result)] = StorageWeakRef(_storage(result))
        return result

    @contextlib.contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextlib.contextmanager
    def capture(self, graph: Graph, stream: Stream) -> Iterator[None]:
        """Record what the stream does; nothing of it has happened in the end. An error also breaks the end."""
        if stream is self.default:
            raise RuntimeError("the default stream cannot be captured")
        stream.graph = graph
        try:
            yield
        except Exception:
            raise RuntimeError("operation failed due to a previous error during capture")  # noqa: B904
        finally:
            stream.graph = None
            with self.aside():
                for storage in graph.own.values():
                    torch.empty(0, dtype=torch.uint8).set_(storage).fill_(255)  # floats that are not a number
                for storage, content in graph.before.values():
                    storage.copy_(content)
            graph.before.clear()

    def initialise(self) -> None:
        self.initialised = True

    def reset_peak(self, device: object = None) -> None:
        if not self.initialised:
            raise RuntimeError("Invalid device argument: did you call init?")

    def enter_network(self, module: torch.nn.Module, *rest: object) -> None:
        self.in_network += _is_of_network(module)

    def leave_network(self, module: torch.nn.Module, *rest: object) -> None:
        self.in_network -= _is_of_network(module)

    def watched(self, update: Callable[..., Any]) -> Callable[..., Any]:
        """An update in which the host may not wait."""

        def run(*args: Any) -> Any:
            self.in_update = True
            try:
                return update(*args)
            finally:
                self.in_update = False

        return run


class _Functions(TorchFunctionMode):
    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.machine.is_aside:
            return func(*args, **(kwargs or {}))
        return self.machine.call(func, args, dict(kwargs or {}))


class _Operations(TorchDispatchMode):
    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.machine.is_aside:
            return func(*args, **(kwargs or {}))
        return self.machine.run(func, args, kwargs or {})


class _Autocast(torch.autocast):
    """Of the device whose operations are done: the CPU."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu", *args, **kwargs)


@contextlib.contextmanager
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A context in which "cuda" is the pretended device. Skips the test where this PyTorch cannot be pretended to."""
    machine = Machine()

    class Threads:
        """Does at once what another thread would do at any time."""

        def __init__(self, size: int) -> None: ...

        def __enter__(self) -> Threads:
            return self

        def __exit__(self, *error: object) -> None: ...

        def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
            future: Future[Any] = Future()
            machine.threads += 1
            try:
                with machine.stream(machine.default), torch.inference_mode(False):
                    future.set_result(function(*args))
            finally:
                machine.threads -= 1
            return future

    by_device = torch.optim.Optimizer._group_tensors_by_device_and_dtype

    def grouped(tensors: Any, *rest: Any, **more: Any) -> Any:
        groups = by_device(tensors, *rest, **more)
        ours = any(machine.holds(each) for each in _tensors(tensors))
        return {(GPU if ours else device, dtype): group for (device, dtype), group in groups.items()}

    for name, value in {
        "_lazy_init": machine.initialise,
        "init": machine.initialise,
        "is_available": lambda: True,
        "is_bf16_supported": lambda *args: True,
        "is_current_stream_capturing": lambda: machine.current.is_capturing(),
        "current_stream": lambda device=None: machine.current,
        "synchronize": lambda device=None: machine.wait("synchronize"),
        "mem_get_info": lambda device=None: (MEMORY, MEMORY),
        "reset_peak_memory_stats": machine.reset_peak,
        "max_memory_allocated": lambda device=None: 0,
        "get_device_name": lambda device=None: "pretended",
        "memory_reserved": lambda device=None: 0,
        "memory_allocated": lambda device=None: 0,
        "stream": machine.stream,
        "graph": machine.capture,
        "Stream": machine.kinds["Stream"],
        "Event": machine.kinds["Event"],
        "CUDAGraph": machine.kinds["Graph"],
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    # By which newer versions ask for the same.
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: GPU, raising=False)
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda device=None: machine.current, raising=False)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch, "autocast", _Autocast)
    monkeypatch.setattr(
        Tensor, "record_stream", lambda tensor, stream: machine.recorded.add((_key(tensor), stream.number))
    )
    monkeypatch.setattr(torch.optim.Optimizer, "_group_tensors_by_device_and_dtype", staticmethod(grouped))
    monkeypatch.setattr("benchmark.training.loader.ThreadPoolExecutor", Threads)
    hooks = (
        modules.register_module_forward_pre_hook(machine.enter_network),
        modules.register_module_forward_hook(machine.leave_network, always_call=True),
    )
    try:
        with _Functions(machine), _Operations(machine):
            _probe(machine)
            yield machine
    finally:
        for hook in hooks:
            hook.remove()


def _probe(machine: Machine) -> None:
    """Skip where PyTorch no longer works as the pretence takes for granted."""
    try:
        layer = torch.nn.Linear(2, 2).to(GPU)
        optimizer = torch.optim.Adam(
            layer.parameters(), lr=torch.tensor(0.1, dtype=torch.float32, device=GPU), fused=True
        )
        loss = layer(torch.ones(3, 2, device=GPU)).where(torch.ones(3, 1, device=GPU) > 0, 0).sum()
        loss.backward()
        optimizer.step()
        assert layer.weight.grad is not None
        assert layer.weight.grad.device == loss.device == GPU
        assert layer.weight.device == GPU
        assert torch.zeros(1).device == CPU
        machine.in_update = True
        with pytest.raises(Hazard):
            loss.item()
    except (AttributeError, TypeError, RuntimeError, NotImplementedError, AssertionError) as error:
        pytest.skip(f"PyTorch {torch.__version__} cannot be made to pretend a GPU: {type(error).__name__}: {error}")
    finally:
        machine.in_update = False
