"""DATEX II documents, written after the published schemas."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMESPACES = (
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    'xmlns:d2="http://datex2.eu/schema/3/d2Payload" '
    'xmlns:mc="http://datex2.eu/schema/3/messageContainer" '
    'xmlns:com="http://datex2.eu/schema/3/common" '
    'xmlns:loc="http://datex2.eu/schema/3/locationReferencing" '
    'xmlns:roa="http://datex2.eu/schema/3/roadTrafficData" '
    'xmlns:sit="http://datex2.eu/schema/3/situation"'
)
HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
TIME = "<roa:measurementTimeDefault><roa:timeValue>2026-01-05T07:01:00Z</roa:timeValue></roa:measurementTimeDefault>"


def payload(kind: str, body: str, *, lang: str = "nl") -> str:
    """A document of version 3 with one ``d2:payload``."""
    return (
        f'{HEAD}<d2:payload {NAMESPACES} xsi:type="{kind}" lang="{lang}" modelBaseVersion="3">'
        f"<com:publicationTime>2026-01-05T07:02:00Z</com:publicationTime>{body}</d2:payload>"
    )


def container(*payloads: tuple[str, str]) -> str:
    """A document of version 3 with a ``messageContainer`` of several payloads."""
    parts = "".join(f'<mc:payload xsi:type="{kind}" lang="nl">{body}</mc:payload>' for kind, body in payloads)
    return f"{HEAD}<mc:messageContainer {NAMESPACES}>{parts}<mc:exchangeInformation/></mc:messageContainer>"


def soap(document: str) -> str:
    """The same inside a SOAP envelope."""
    return (
        f'{HEAD}<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body>'
        f"{document.removeprefix(HEAD)}</soap:Body></soap:Envelope>"
    )


def quantity(index: int | None, data: str, *, fault: str = "") -> str:
    """A value of version 3."""
    at = "" if index is None else f' index="{index}"'
    return (
        f'<roa:physicalQuantity{at}><roa:physicalQuantity xsi:type="roa:SinglePhysicalQuantity">{fault}'
        f"{data}</roa:physicalQuantity></roa:physicalQuantity>"
    )


def flow(rate: object, attributes: str = "", *, inside: str = "", time: str = "") -> str:
    """Vehicles per hour."""
    return (
        f'<roa:basicData xsi:type="roa:TrafficFlow">{time}<roa:vehicleFlow {attributes}>{inside}'
        f"<com:vehicleFlowRate>{rate}</com:vehicleFlowRate></roa:vehicleFlow></roa:basicData>"
    )


def speed(kmh: object, attributes: str = "", *, inside: str = "") -> str:
    """Kilometres per hour."""
    return (
        f'<roa:basicData xsi:type="roa:TrafficSpeed"><roa:averageVehicleSpeed {attributes}>{inside}'
        f"<com:speed>{kmh}</com:speed></roa:averageVehicleSpeed></roa:basicData>"
    )


def measurements(site: str, *quantities: str, time: str = TIME) -> str:
    """The values of one site."""
    return (
        f'<roa:siteMeasurements><roa:measurementSiteReference targetClass="roa:MeasurementSite" id="{site}" version="1"/>'
        f"{''.join(quantities)}{time}</roa:siteMeasurements>"
    )


def characteristics(index: int, kind: str, *, lane: str = "", vehicles: str = "anyVehicle", period: str = "60") -> str:
    """What an index of a site means."""
    lanes = f"<roa:specificLane>{lane}</roa:specificLane>" if lane else ""
    return (
        f'<roa:measurementSpecificCharacteristics index="{index}"><roa:measurementSpecificCharacteristics>'
        f"<roa:period>{period}</roa:period>{lanes}<roa:specificMeasurementValueType>{kind}"
        f"</roa:specificMeasurementValueType><roa:specificVehicleCharacteristics>{_vehicles(vehicles)}"
        f"</roa:specificVehicleCharacteristics></roa:measurementSpecificCharacteristics>"
        f"</roa:measurementSpecificCharacteristics>"
    )


def _vehicles(kind: str) -> str:
    if not kind[0].isdigit():
        return f"<com:vehicleType>{kind}</com:vehicleType>"
    return (
        "<com:lengthCharacteristic><com:comparisonOperator>lessThan</com:comparisonOperator>"
        f"<com:vehicleLength>{kind}</com:vehicleLength></com:lengthCharacteristic>"
    )


def site(site_id: str, *described: str, lat: object = 52.09, lon: object = 5.12) -> str:
    """A site of version 3."""
    return (
        f'<roa:measurementSite id="{site_id}" version="1"><roa:measurementSiteName><com:values>'
        f'<com:value lang="nl">A2 hmp 63.1</com:value></com:values></roa:measurementSiteName>'
        f"<roa:measurementSiteNumberOfLanes>2</roa:measurementSiteNumberOfLanes>{''.join(described)}"
        f'<roa:measurementSiteLocation xsi:type="loc:PointLocation"><loc:supplementaryPositionalDescription>'
        f"<loc:carriageway><loc:carriageway>mainCarriageway</loc:carriageway></loc:carriageway>"
        f"<loc:roadInformation><loc:roadNumber>A2</loc:roadNumber></loc:roadInformation>"
        f"</loc:supplementaryPositionalDescription><loc:pointByCoordinates><loc:bearing>180</loc:bearing>"
        f"<loc:pointCoordinates><loc:latitude>{lat}</loc:latitude><loc:longitude>{lon}</loc:longitude>"
        f"</loc:pointCoordinates></loc:pointByCoordinates></roa:measurementSiteLocation></roa:measurementSite>"
    )


def sites(*described: str) -> str:
    """The body of a site table."""
    return f'<roa:measurementSiteTable id="T" version="1">{"".join(described)}</roa:measurementSiteTable>'


def write_measured(path: Path, size: int) -> int:
    """Writes measured data of about so many bytes and returns how many values it holds."""
    values = 0
    with path.open("w", encoding="utf-8") as out:
        out.write(payload("roa:MeasuredDataPublication", "").removesuffix("</d2:payload>"))
        for number in _numbers(out.tell, size):
            lanes = [(flow(60 * (number % 30), 'numberOfIncompleteInputs="0"'), speed(80 + lane)) for lane in range(3)]
            flat = [data for lane in lanes for data in lane]
            parts = [quantity(index, data) for index, data in enumerate(flat, start=1)]
            out.write(measurements(f"SITE_{number}", *parts))
            values += len(parts)
        out.write("</d2:payload>")
    return values


def _numbers(position, size: int) -> Iterator[int]:
    number = 0
    while position() < size:
        yield number
        number += 1
