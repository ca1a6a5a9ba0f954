"""`glasschat doctor`: what this machine has, and whether what runs on it computes right."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict

from inference.protocol import EngineConfig

_MARKS = {"ok": "  ok", "note": "note", "fail": "FAIL"}


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("doctor", help="examine this machine and check every kernel in force")
    parser.add_argument("--kernels", default=EngineConfig().kernels, metavar="NAME", help="as for the engine")
    parser.add_argument(
        "--again", action="store_true", help="compare and time our own kernels anew, and forget what was found before"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    """Exit code 1 if anything failed."""
    from app.sessions.store import data_folder
    from inference.doctor import Finding, Status, examine

    def show(findings: Iterable[Finding]) -> list[Finding]:
        seen = []
        for finding in findings:
            seen.append(finding)
            if not args.json:
                print(f"{_MARKS[finding.status]}  {finding.subject:<24}{finding.detail}", flush=True)
                if finding.advice:
                    print(f"      {'':<24}→ {finding.advice}", flush=True)
        return seen

    findings = show(examine(args.kernels, data_folder(), again=args.again))
    failed = sum(finding.status is Status.FAIL for finding in findings)
    if args.json:
        print(json.dumps({"findings": [asdict(finding) for finding in findings], "failed": failed}, indent=2))
    else:
        print(f"\n{failed} failed" if failed else "\neverything works")
    return 1 if failed else 0
