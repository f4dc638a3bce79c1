"""Formats the records of measurements as text."""

from nfnets.benchmark import report

_PEAK_TEXTS = {
  'published': 'peak',
  'matrix product': 'matrix product at',
}


def lines(record: report.Record) -> list[str]:
  """Formats a record as lines of text.

  Args:
    record: a record from `measure`.
  """
  text = [
    f'{record["model"]}  {record["size"]} px, batch {record["batch"]},'
    f' {record["dtype"]}, {record["device"]}, jax {record["jax"]},'
    f' {_PEAK_TEXTS[record["peak_source"]]} {record["peak_tflops"]:.3f} TFLOP/s'
  ]
  number = record['in_flight']
  for name in ('forward', 'train_step'):
    if name in record:
      text.append(_program_line(name, record[name], number))
  peers = {'timm': record.get('timm', {}), 'onnx': record.get('onnx', {})}
  for peer, rows in peers.items():
    for name, row in rows.items():
      times = f'{f"{peer} {name}":42} {_times(row, number)}'
      text.append(f'  {times}{_memory(row)}')
    for name, ratio in record['ratio'].items() if rows else ():
      text.append(f"  {name}: {ratio:.2f} of {peer}'s best time")
  return text + _profile_lines(record)


def _profile_lines(record: report.Record) -> list[str]:
  if 'profiled' not in record:
    return []
  busy, total = record['profiled']['busy'], record['profiled']['total']
  text = [
    "  the published recipe's step, profiled: the device is busy for"
    f' {1e3 * busy:.1f} of {1e3 * total:.1f} ms'
  ]
  for name, seconds in record['parts'].items():
    percent = 100 * seconds / total
    text.append(f'    {name:30} {1e3 * seconds:9.1f} ms {percent:5.1f}%')
  return text


def _times(taken: report.TimingRecord, in_flight: int) -> str:
  low, high = 1e3 * taken['low'], 1e3 * taken['high']
  text = f'{1e3 * taken["median"]:9.1f} ms ({low:.1f} to {high:.1f})'
  if 'in_flight' in taken:
    text += f', {1e3 * taken["in_flight"]:.1f} ms with {in_flight} in flight'
  return text


def _memory(row: report.PeerRecord | report.ProgramRecord) -> str:
  size = row['memory_bytes']
  return '' if size is None else f', {size / 2**20:.0f} MiB'


def _program_line(name: str, row: report.ProgramRecord, in_flight: int) -> str:
  return (
    f'  {name:42} {_times(row, in_flight)}'
    f' {row["images_per_second"]:8.2f} images/s'
    f' {row["tflops"]:.3f} TFLOP/s ({100 * row["share_of_peak"]:.0f}%),'
    f' traced in {row["trace_seconds"]:.1f} s,'
    f' compiled in {row["compile_seconds"]:.1f} s{_memory(row)}'
  )
