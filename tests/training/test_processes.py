"""Several processes on one machine train the run of one process."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lru.errors import UserError
from lru.training import processes, rendezvous
from lru.training.config import load_config
from lru.training.loop import train_and_evaluate

LISTOPS = "configs/lra_listops.py:smoke"
TEXT = "configs/charlm_lru.py:smoke"
LONG = ["--config.train.steps=36", "--config.train.eval_every=12", "--config.train.log_every=4"]
SECONDS = 300  # for a process on a busy machine


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(count, workdirs, config, *arguments, devices=1, each=((), ()), module="lru.train"):
    """Starts processes that train together, each with one of the work directories."""
    port = free_port()
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    environment["XLA_FLAGS"] += f" --xla_force_host_platform_device_count={devices}"
    return [
        subprocess.Popen(
            [
                sys.executable, "-m", module, f"--workdir={workdirs[i]}",
                *([f"--config={config}"] if module == "lru.train" else []),
                f"--data_dir={workdirs[i].parent / 'data'}", f"--coordinator=127.0.0.1:{port}",
                f"--num_processes={count}", f"--process_id={i}", *arguments, *each[i],
            ],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for i in range(count)
    ]  # fmt: skip


def finish(started):
    """Returns exit code, output and errors of each process."""
    outputs = [process.communicate(timeout=SECONDS) for process in started]
    return [(process.returncode, *output) for process, output in zip(started, outputs)]


def single(work, config, *arguments):
    train_and_evaluate(load_config(config, arguments), work, data_dir=work.parent / "data")
    return rows(work)


def rows(work):
    return [json.loads(line) for line in (work / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(found, wanted):
    assert [(row["step"], row["split"]) for row in found] == [
        (row["step"], row["split"]) for row in wanted
    ]
    assert [row["loss"] for row in found] == pytest.approx(
        [row["loss"] for row in wanted], rel=1e-6
    )


def wait_for(path):
    deadline = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)


@pytest.mark.parametrize(("config", "devices"), [(LISTOPS, 1), (TEXT, 2)])
def test_two_processes_train_the_run_of_one(tmp_path, config, devices):
    wanted = single(tmp_path / "one", config)
    first, second = finish(start(2, [tmp_path / "two"] * 2, config, devices=devices))
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert "test " in first[1] and second[1] == ""  # only the first writes a log
    assert_same_run(rows(tmp_path / "two"), wanted)
    if config == LISTOPS:
        evaluated = finish(start(2, [tmp_path / "two"] * 2, config, module="lru.evaluate"))
        test = next(line for line in first[1].splitlines() if line.startswith("test "))
        assert [output for _, output, _ in evaluated] == [test + "\n", ""]
    files = [{path.name for path in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert files[0] == files[1]


def test_a_run_survives_a_signal_and_a_kill_and_ends_in_one_process(tmp_path):
    wanted = single(tmp_path / "one", LISTOPS, *LONG)
    work = tmp_path / "two"

    both = start(2, [work] * 2, LISTOPS, *LONG)
    wait_for(work / "checkpoints" / "12")
    both[1].send_signal(signal.SIGTERM)
    assert [code for code, *_ in finish(both)] == [143, 143]
    assert "test" not in json.loads((work / "record.json").read_text())

    both = start(2, [work] * 2, LISTOPS, *LONG)
    wait_for(work / "checkpoints" / "24")
    both[0].kill()
    (killed, *_), (code, _, error) = finish(both)
    if killed != 0:  # it had not finished before
        assert (
            code == 2
            and "another process of this run has ended" in error
            or (
                code == -signal.SIGABRT and "another task died" in error  # JAX noticed it first
            )
        )

    assert_same_run(single(work, LISTOPS, *LONG), wanted)


@pytest.mark.parametrize(
    ("workdirs", "seeds", "message"),
    [
        (("run", "run"), (0, 1), "the processes of this run have different configs"),
        (("here/run", "there/run"), (0, 0), "is not the directory of process 0"),
    ],
)
def test_processes_that_differ_end_with_a_line(tmp_path, workdirs, seeds, message):
    paths = [tmp_path / name for name in workdirs]
    arguments = [[f"--config.seed={seed}"] for seed in seeds]
    done = finish(start(2, paths, LISTOPS, each=arguments))
    assert [code for code, *_ in done] == [2, 2]
    assert message in done[1][2] and "Traceback" not in done[0][2] + done[1][2]
    assert not any((path / "metrics.jsonl").exists() for path in paths)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("h:1", 2, None), "--process_id is missing; several processes need --coordinator"),
        ((None, 2, 0), "--coordinator is missing"),
        (("h", 2, 0), "--coordinator is 'h'; expected HOST:PORT"),
        (("h:0", 2, 0), "--coordinator is 'h:0'; expected HOST:PORT"),
        (("h:1", 2, 2), "--process_id is 2, and --num_processes is 2; expected a --process_id"),
        (("h:1", 0, 0), "--num_processes is 0; expected at least 1"),
    ],
)
def test_arguments_that_do_not_fit_together_raise(arguments, message):
    with pytest.raises(UserError, match=message):
        processes.join(*arguments)


def test_a_port_in_use_raises():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} of --coordinator cannot be used"):
            processes.join(f"127.0.0.1:{port}", 2, 0)


def test_the_environment_gives_what_the_arguments_do_not(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(UserError, match="JAX_NUM_PROCESSES is 'two' in the environment"):
        processes.join()
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    with pytest.raises(UserError, match="--process_id is missing"):
        processes.join()


def test_one_process_joins_nobody(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "1")
    processes.join()
    assert not processes.are_several() and processes.is_first()
    assert (processes.largest(15), processes.from_first(3)) == (15, 3)


def meet(numbers, seconds=20):
    """Lets processes meet, each a thread here, and returns their errors."""
    port = free_port()

    def join(count, process_id):
        try:
            rendezvous.meet(f"127.0.0.1:{port}", count, process_id, seconds)
        except UserError as error:
            return str(error).partition("; start all")[0]

    with ThreadPoolExecutor() as pool:
        return list(pool.map(join, *zip(*numbers)))


def test_processes_meet_whoever_comes_first():
    assert meet([(3, 2), (3, 1), (3, 0)]) == [None] * 3


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([(2, 0), (3, 1)], "process 1 has --num_processes=3, process 0 2"),
        ([(3, 0), (3, 1), (3, 1)], "two processes have --process_id=1"),
        ([(2, 0), (3, 2)], "process 2 has --num_processes=3, process 0 2"),
    ],
)
def test_numbers_that_do_not_fit_together_raise_in_all_processes(numbers, message):
    assert meet(numbers) == [f"the processes do not fit together: {message}"] * len(numbers)


def test_processes_that_do_not_come_are_named():
    found = meet([(4, 0), (4, 2)], seconds=0.5)
    message = "these have not come in time: --process_id=1, 3"
    assert found == [f"the processes do not fit together: {message}"] * 2


def test_a_process_of_a_run_that_has_started_raises():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        answer = threading.Thread(target=lambda: other.accept()[0].close())
        answer.start()
        with pytest.raises(UserError, match="the run has started without this process, or"):
            rendezvous.meet(f"127.0.0.1:{port}", 3, 2, 5)
        answer.join()


def test_other_programs_at_the_port_are_ignored():
    port = free_port()
    with ThreadPoolExecutor() as pool:
        first = pool.submit(rendezvous.meet, f"127.0.0.1:{port}", 2, 0, 20)
        for text in (b"GET / HTTP/1.1\r\n", b"\xff\n", b"lru: 2 x\n", b""):
            with rendezvous._connect("127.0.0.1", port, time.monotonic() + 20) as stranger:
                stranger.sendall(text)
        rendezvous.meet(f"127.0.0.1:{port}", 2, 1, 20)
        first.result()


@pytest.mark.parametrize(
    ("process_id", "message"),
    [(0, "these have not come in time: --process_id=1"), (1, "process 0 is not at 127.0.0.1:")],
)
def test_processes_that_do_not_meet_end_with_a_line(process_id, message):
    program = (
        "import sys; from lru.command_line import run; from lru.training import processes; "
        "processes._CONNECT_SECONDS = 1; "
        f"sys.exit(run(lambda _: processes.join('127.0.0.1:{free_port()}', 2, {process_id})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert len(done.stderr.splitlines()) == 1
