"""A machine for the kernels that are written for CUDA devices.

There is no such device where the tests are run. The instructions that these
kernels are made of are few, and a thread touches memory that no other does, so
that threads can be run one after the other. What the instructions do is from
NVIDIA's "Parallel Thread Execution ISA".
"""

import itertools
import re

_MASK = {"32": 2**32 - 1, "64": 2**64 - 1}


class Kernel:
    """A kernel of a module.

    Args:
        text: of the module.
        name: of the kernel.
    """

    def __init__(self, text, name):
        found = re.search(
            rf"\.visible \.entry {name}\((.*?)\)\n{{\n(.*?)\n}}\n", text, re.S
        )
        self._parameters = re.findall(r"\.param \.u64 (\w+)", found[1])
        self._code, self._labels = [], {}
        for line in found[2].splitlines():
            line = line.strip()
            if line.endswith(":"):
                self._labels[line[:-1]] = len(self._code)
            elif not line.startswith(".reg"):
                self._code.append(line.removesuffix(";"))

    def run(self, memory, arguments, *, grid, block):
        """Runs all threads.

        Args:
            memory: bytes, of which addresses are indices.
            arguments: of the kernel, numbers.
            grid: how many blocks there are, on two axes.
            block: how many threads a block has, on two axes.
        """
        for at in itertools.product(*map(range, (*grid, *block))):
            self.run_thread(memory, arguments, grid=grid, block=block, at=at)

    def run_thread(self, memory, arguments, *, grid, block, at):
        """Runs one thread: of the block and the thread at these indices."""
        given = dict(zip(self._parameters, arguments, strict=True))
        names = ("%ctaid", "%tid", "%nctaid", "%ntid")
        values = (at[:2], at[2:], grid, block)
        special = {
            f"{name}.{axis}": number
            for name, numbers in zip(names, values, strict=True)
            for axis, number in zip("xy", numbers, strict=True)
        }
        registers, at = {}, 0

        def value(operand):
            if operand.startswith("%"):
                return (special if "." in operand else registers)[operand]
            return int(operand, 0)

        def numbers(address, size, count):
            start = value(address)
            assert start % (size * count) == 0, "not aligned"
            assert 0 <= start <= len(memory) - size * count, "not in memory"
            return [
                slice(start + i * size, start + (i + 1) * size)
                for i in range(count)
            ]

        while True:
            line = self._code[at]
            at += 1
            if line.startswith("@"):
                predicate, line = line[1:].split(" ", 1)
                if not registers[predicate]:
                    continue
            name, _, rest = line.partition(" ")
            # "{%x, %y}" is one operand, and "[%x]" an address.
            to, *operands = [
                operand.strip("[]")
                for operand in re.findall(r"{[^}]*}|[^,\s]+", rest)
            ] or [None]
            op, *kinds = name.split(".")
            bits = kinds[-1][1:] if kinds else ""
            mask = _MASK.get(bits)
            match op, kinds:
                case "ret", _:
                    return
                case "bra", _:
                    at = self._labels[to]
                case "ld", ["param", _]:
                    registers[to] = given[operands[0]]
                case (("ld" | "st"), ["global", *vector, _]):
                    names, address = (
                        (to, operands[0]) if op == "ld" else (operands[0], to)
                    )
                    names = re.findall(r"%\w+", names)
                    assert len(names) == (2 if vector == ["v2"] else 1)
                    size = int(bits) // 8
                    places = numbers(address, size, len(names))
                    for place, register in zip(places, names, strict=True):
                        if op == "ld":
                            registers[register] = int.from_bytes(
                                memory[place], "little"
                            )
                        else:
                            number = registers[register] % 2 ** int(bits)
                            memory[place] = number.to_bytes(size, "little")
                case "cvta", _:
                    registers[to] = value(operands[0])
                case "mov", ["b64"]:
                    low, high = re.findall(r"%\w+", to)
                    number = value(operands[0])
                    registers[low] = number % 2**32
                    registers[high] = number >> 32
                case ("mov", _) | ("cvt", ["u64", "u32"]):
                    registers[to] = value(operands[0])
                case "add", _:
                    registers[to] = sum(map(value, operands)) & mask
                case "xor", _:
                    first, second = map(value, operands)
                    registers[to] = first ^ second
                case "shl", _:
                    first, second = map(value, operands)
                    registers[to] = first << second & mask
                case "shf", ["l", "wrap", "b32"]:
                    low, high, distance = map(value, operands)
                    both = high << 32 | low
                    registers[to] = both << distance % 32 >> 32 & mask
                case "mul", ["lo", "u64"]:
                    first, second = map(value, operands)
                    registers[to] = first * second & mask
                case (("mul" | "mad"), ["wide", "u32"]):
                    first, second, *third = map(value, operands)
                    registers[to] = first * second + sum(third) & _MASK["64"]
                case "setp", ["ge", "u64"]:
                    first, second = map(value, operands)
                    registers[to] = first >= second
                case _:
                    raise NotImplementedError(line)
