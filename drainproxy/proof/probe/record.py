"""Record: a measurement as JSON, for pipelines and for keeping beside a change request."""

from drainproxy.proof.outcomes import Kind
from drainproxy.proof.probe.measurement import Measurement


def record(measurement: Measurement) -> dict[str, object]:
    """Durations in seconds; `losses` are all of them up to the number the tally keeps."""
    plan, tally = measurement.plan, measurement.pace.tally
    ended = measurement.command
    return {
        "url": plan.url,
        "method": plan.request.method,
        "rate": plan.rate,
        "connections": plan.connections,
        "began": measurement.began.isoformat(),
        "took_s": round(measurement.took_s, 3),
        "requests": tally.requests,
        "lost": tally.lost,
        "lost_by_kind": {kind.value: tally.by_kind[kind] for kind in Kind},
        "retried": tally.retried,
        "held_back": measurement.pace.held_back,
        "statuses": {str(status): count for status, count in sorted(tally.by_status.items())},
        "p50_s": tally.quantile_s(0.5),
        "p99_s": tally.quantile_s(0.99),
        "max_s": tally.quantile_s(1.0),
        "longest_gap_s": round(tally.longest_gap_s(measurement.ended_at), 6),
        "command": list(plan.command),
        "command_exit_code": ended.exit_code if ended else None,
        "command_took_s": round(ended.took_s, 3) if ended else None,
        "rollout": None
        if (after := measurement.aftermath) is None
        else {
            "seen_to_its_end": after.complete,
            "why_not": after.why or None,
            "waited_for": list(after.waited_for),
            "old_pods": after.old_pods,
            "took_s": round(after.took_s, 3),
        },
        "losses": [
            {
                "at": measurement.wall_time(loss.sent_at).isoformat(timespec="milliseconds"),
                "after_s": round(loss.sent_at - measurement.began_at, 3),
                "took_s": round(loss.took_s, 3),
                "kind": str(loss.kind),
                "error": loss.error,
                "retried": loss.retried,
            }
            for loss in tally.losses
        ],
    }
