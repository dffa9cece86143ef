"""For `run.py --values`: every ATen operation on the stub's device is done again by the CPU.

The device's memory is the host's, so a tensor of the CPU can lie on a CUDA tensor's memory. The
CUDA operation runs first (it checks, allocates, and computes nothing), then the CPU's on the same
memory. Below autograd and autocast: what they choose for CUDA stays. Eager code only.
"""

import ctypes
import importlib.abc
import importlib.util
import sys


def start() -> None:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves, tree_map

    generator = torch.Generator().manual_seed(0)
    failed = set()

    def on_device(x) -> bool:
        return isinstance(x, torch.Tensor) and x.device.type == "cuda"

    def as_cpu(x):
        """The same memory as a tensor of the CPU; devices and generators likewise."""
        if isinstance(x, torch.device):
            return torch.device("cpu") if x.type == "cuda" else x
        if isinstance(x, torch.Generator):
            return generator if x.device.type == "cuda" else x
        if not on_device(x):
            return x
        storage = x.untyped_storage()
        if not storage.nbytes():
            return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype)
        memory = (ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr())
        cpu = torch.frombuffer(memory, dtype=torch.uint8).untyped_storage()
        return torch.empty(0, dtype=x.dtype).set_(cpu, x.storage_offset(), x.shape, x.stride())

    def to_device(x):
        return x.to("cuda") if isinstance(x, torch.Tensor) else x

    def by_cpu(func, args, kwargs):
        return func(*tree_map(as_cpu, args), **tree_map(as_cpu, kwargs))

    class ByCpu(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            inputs = tree_leaves((args, kwargs))
            by_values = torch.Tag.dynamic_output_shape in func.tags  # nonzero, x[mask], unique
            if by_values and any(map(on_device, inputs)):
                return tree_map(
                    to_device, func(*tree_map(as_cpu, args), **tree_map(as_cpu, kwargs))
                )
            result = func(*args, **kwargs)
            outputs = tree_leaves(result)
            if func.is_view or not any(map(on_device, inputs + outputs)):
                return result
            if func._schema.name.startswith(("aten::empty", "aten::new_empty", "aten::set_")):
                return result
            try:
                again = by_cpu(func, args, kwargs)
            except (NotImplementedError, RuntimeError) as error:
                if func not in failed:
                    failed.add(func)
                    print(
                        f"stub: no values of {func}: {str(error).splitlines()[0]}", file=sys.stderr
                    )
                return result
            changed = {id(x) for x in inputs}  # in place: done
            for to, value in zip(outputs, tree_leaves(again), strict=True):
                if on_device(to) and id(to) not in changed:
                    as_cpu(to).copy_(value)
            return result if any(isinstance(x, torch.Tensor) for x in outputs) else again

    ByCpu().__enter__()


class AfterTorch(importlib.abc.MetaPathFinder):
    """Calls `start` when the program has imported torch."""

    def find_spec(self, name, path, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("torch")
        run = spec.loader.exec_module

        def run_and_start(module):
            run(module)
            start()

        spec.loader.exec_module = run_and_start
        return spec


sys.meta_path.insert(0, AfterTorch())
