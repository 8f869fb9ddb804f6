"""What the operator's control centre publishes while trips run: GTFS Realtime, every entity in one message.

A snapshot a few minutes: trip updates with the delays of :mod:`mtgpt.sim.operations`, positions of vehicles, alerts.
The tram has positions only: its line runs to a headway, not to times.

Reference: https://gtfs.org/realtime/reference/
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from google.transit import gtfs_realtime_pb2 as pb

from mtgpt.sim.network import place
from mtgpt.sim.timetable import LAYOVER_S, clock_text, departures_of, service_start, services_on

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date, datetime
    from pathlib import Path

    from mtgpt.sim.alerts import Alert
    from mtgpt.sim.operations import Run
    from mtgpt.sim.timetable import Frequency, Timetable, Trip

_ANNOUNCED_S = 900
_KEPT_S = 900
_ROUNDED_S = 5
_SNAPSHOT = "%Y%m%dT%H%MZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDay:
    """Everything that a day's snapshots are made from."""

    date: date
    runs: Sequence[Run]
    timetable: Timetable
    alerts: Sequence[Alert]


def write_realtime(folder: Path, day: ServiceDay, moments: Sequence[datetime]) -> None:
    """A file per moment, named after its time in UTC."""
    folder.mkdir(parents=True, exist_ok=True)
    for moment in moments:
        message = snapshot(day, moment)
        content = message.SerializeToString(deterministic=True)
        (folder / f"realtime_{moment.strftime(_SNAPSHOT)}.pb").write_bytes(content)


def snapshot(day: ServiceDay, moment: datetime) -> Any:
    """The FeedMessage of one moment."""
    message = pb.FeedMessage()
    message.header.gtfs_realtime_version = "2.0"
    message.header.incrementality = pb.FeedHeader.FULL_DATASET
    message.header.timestamp = int(moment.timestamp())
    zero = service_start(day.date)
    now_s = (moment - zero) / timedelta(seconds=1)
    behind = _behind(day.runs, now_s)
    for run in day.runs:
        _trip_update(message, day, run, now_s, behind.get(run.trip.block, 0.0))
        if not run.cancelled and run.depart_s[0] <= now_s < run.arrive_s[-1]:
            _vehicle(message, day, run, now_s)
    for frequency, start_s in _trams(day):
        _tram(message, day, frequency, start_s, now_s)
    for alert in day.alerts:
        if alert.told <= moment < alert.withdrawn:
            _alert(message, alert)
    return message


def _behind(runs: Sequence[Run], now_s: float) -> dict[str, float]:
    # How late each vehicle is that is under way: its next trip is announced as late.
    found = {}
    for run in runs:
        if not run.cancelled and run.depart_s[0] <= now_s < run.arrive_s[-1]:
            late = run.delay_s[int(np.searchsorted(run.depart_s, now_s, side="right")) - 1]
            found[run.trip.block] = max(0.0, float(late) - LAYOVER_S)
    return found


def _trip_update(message: Any, day: ServiceDay, run: Run, now_s: float, behind_s: float) -> None:
    trip = run.trip
    last_s = trip.arrive_s[-1] if run.cancelled else run.arrive_s[-1]
    if not trip.depart_s[0] - _ANNOUNCED_S <= now_s < last_s + _ANNOUNCED_S / 3:
        return
    entity = message.entity.add(id=f"tu-{trip.trip_id}")
    update = entity.trip_update
    _describe(update.trip, trip, day.date)
    if run.cancelled:
        update.trip.schedule_relationship = pb.TripDescriptor.CANCELED
        return
    update.vehicle.id = run.vehicle
    update.timestamp = int(message.header.timestamp) - _age(trip)
    passed = int(np.searchsorted(run.depart_s, now_s, side="right"))
    late = float(run.delay_s[passed - 1]) if passed else behind_s
    zero = message.header.timestamp - now_s
    for i, stop in enumerate(trip.way.stops):
        if i < passed and run.depart_s[i] < now_s - _KEPT_S:
            continue
        # What is past is known; what lies ahead is the timetable and today's lateness, in whole five seconds.
        arrive = run.arrive_s[i] if i < passed else trip.arrive_s[i] + late
        depart = run.depart_s[i] if i < passed else max(trip.depart_s[i] + late, trip.depart_s[i])
        one = update.stop_time_update.add(stop_sequence=i + 1, stop_id=stop.stop_id)
        if i:
            _event(one.arrival, zero, arrive, trip.arrive_s[i])
        if i + 1 < len(trip.way.stops):
            _event(one.departure, zero, depart, trip.depart_s[i])


def _event(event: Any, zero: float, at_s: float, planned_s: int) -> None:
    delay = _ROUNDED_S * round((at_s - planned_s) / _ROUNDED_S)
    event.delay = delay
    event.time = round(zero + planned_s + delay)


def _vehicle(message: Any, day: ServiceDay, run: Run, now_s: float) -> None:
    trip = run.trip
    left = int(np.searchsorted(run.depart_s, now_s, side="right"))
    at_stop = now_s >= run.arrive_s[left]
    begin, end = run.depart_s[left - 1], run.arrive_s[left]
    share = 1.0 if at_stop else (now_s - begin) / (end - begin)
    entity = message.entity.add(id=f"vp-{trip.trip_id}")
    _describe(entity.vehicle.trip, trip, day.date)
    speed = 0.0 if at_stop else trip.way.legs[left - 1].length_m / (end - begin)
    _put(message, entity.vehicle, trip, following=left, share=share, speed_m_s=speed, name=run.vehicle)


def _trams(day: ServiceDay) -> Iterator[tuple[Frequency, int]]:
    services = services_on(day.date)
    for frequency in day.timetable.frequencies:
        if frequency.trip.service in services:
            for start_s in departures_of(frequency):
                yield frequency, start_s


def _tram(message: Any, day: ServiceDay, frequency: Frequency, start_s: int, now_s: float) -> None:
    trip = frequency.trip
    # Every tram keeps a little time of its own, the same on all its way.
    since = now_s - start_s - (start_s * 7) % 90
    arrive, depart = np.array(trip.arrive_s), np.array(trip.depart_s)
    if not 0 <= since < arrive[-1]:
        return
    left = int(np.searchsorted(depart, since, side="right"))
    share = min(1.0, (since - depart[left - 1]) / (arrive[left] - depart[left - 1]))
    entity = message.entity.add(id=f"vp-{trip.trip_id}-{start_s}")
    _describe(entity.vehicle.trip, trip, day.date)
    entity.vehicle.trip.start_time = clock_text(start_s)
    entity.vehicle.trip.schedule_relationship = pb.TripDescriptor.UNSCHEDULED
    speed = 0.0 if share >= 1.0 else 7.0
    _put(
        message,
        entity.vehicle,
        trip,
        following=left,
        share=share,
        speed_m_s=speed,
        name=f"T-{trip.way.direction}-{start_s // 60}",
    )


def _put(message: Any, vehicle: Any, trip: Trip, *, following: int, share: float, speed_m_s: float, name: str) -> None:
    a, b = trip.way.stops[following - 1 : following + 1]
    lon, lat = place(a.x_m + (b.x_m - a.x_m) * share, a.y_m + (b.y_m - a.y_m) * share)
    vehicle.vehicle.id = name
    age = _age(trip)
    vehicle.timestamp = int(message.header.timestamp) - age
    # Now and then a vehicle has no fix, and its computer says 0 / 0.
    if (message.header.timestamp // 60 + age * 7) % 41:
        vehicle.position.latitude, vehicle.position.longitude = lat, lon
        vehicle.position.bearing = round(math.degrees(math.atan2(b.x_m - a.x_m, b.y_m - a.y_m)) % 360)
        vehicle.position.speed = round(speed_m_s, 1)
    else:
        vehicle.position.latitude = vehicle.position.longitude = 0.0
    vehicle.current_stop_sequence = following + 1
    vehicle.stop_id = b.stop_id
    status = pb.VehiclePosition
    vehicle.current_status = status.STOPPED_AT if share >= 1.0 else status.IN_TRANSIT_TO


def _alert(message: Any, alert: Alert) -> None:
    entity = message.entity.add(id=alert.alert_id)
    period = entity.alert.active_period.add(start=int(alert.start.timestamp()))
    if alert.end is not None:
        period.end = int(alert.end.timestamp())
    for route, stop in itertools.chain(((r, None) for r in alert.routes), ((None, s) for s in alert.stops)):
        informed = entity.alert.informed_entity.add()
        if route is not None:
            informed.route_id = route
        else:
            informed.stop_id = stop
    entity.alert.cause = pb.Alert.Cause.Value(alert.cause)
    entity.alert.effect = pb.Alert.Effect.Value(alert.effect)
    for field, texts in (("header_text", alert.title), ("description_text", alert.text)):
        for language, text in texts.items():
            getattr(entity.alert, field).translation.add(text=text, language=language)


def _describe(descriptor: Any, trip: Trip, day: date) -> None:
    descriptor.trip_id = trip.trip_id
    descriptor.route_id = trip.line.route_id
    descriptor.direction_id = trip.way.direction
    descriptor.start_date = f"{day:%Y%m%d}"
    descriptor.schedule_relationship = pb.TripDescriptor.SCHEDULED


def _age(trip: Trip) -> int:
    """Seconds since the vehicle last reported."""
    return (trip.depart_s[0] // 60 * 13 + 5 * trip.way.direction) % 28
