from pathlib import Path

from sweeps.store.backends import FolderFiles
from sweeps.store.stop_file import StopRequested, stop_file


def test_stop_file_is_looked_for_at_most_once_a_second(tmp_path: Path) -> None:
    files, name = FolderFiles(tmp_path), stop_file("f")
    requested = StopRequested(files, name)
    assert not requested()
    files.write(name, b"")
    assert not requested(), "asked again within a second"
    assert StopRequested(files, name)()
