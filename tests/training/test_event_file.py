import struct
import time

from tensorboardX.proto import event_pb2

from nfnets.training import event_file


def read(folder):
  """Returns the events of the only file in a folder."""
  (path,) = folder.iterdir()
  assert path.name.startswith('events.out.tfevents.')
  data, events = path.read_bytes(), []
  while data:
    (length,) = struct.unpack('<Q', data[:8])
    events.append(event_pb2.Event.FromString(data[12 : 12 + length]))
    data = data[12 + length + 4 :]
  return events


def test_the_file_holds_the_scalars_and_hides_repeated_steps(tmp_path, caplog):
  folder = tmp_path / 'logs'
  file = event_file.EventFile(folder, 7)
  file.write(8, {'train/loss': 0.5, 'train/top1': float('nan')})
  file.sync()
  first, purge, start, loss, top1 = read(folder)
  assert first.file_version == purge.file_version == 'brain.Event:2'
  assert purge.step == start.step == 8
  assert start.session_log.status == event_pb2.SessionLog.START
  assert loss.step == top1.step == 8 and abs(loss.wall_time - time.time()) < 60
  assert loss.summary.value[0].tag == 'train/loss'
  assert loss.summary.value[0].simple_value == 0.5
  value = top1.summary.value[0].simple_value
  assert value != value
  assert not caplog.records
  file.close()


def test_scalars_are_on_disk_after_half_a_minute(tmp_path, monkeypatch):
  file = event_file.EventFile(tmp_path, 0)
  file.write(1, {'a': 0.0})
  assert not read(tmp_path)
  now = time.monotonic()
  monkeypatch.setattr(event_file.time, 'monotonic', lambda: now + 30.0)
  file.write(2, {'a': 0.0})
  assert [event.step for event in read(tmp_path)] == [0, 1, 1, 1, 2]
  file.close()
