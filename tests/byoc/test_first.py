from on_loop import on_loop, until
from worker_harness import camera, listening, orchestrator, play, serving


@on_loop
async def test_first_end_to_end() -> None:
    async with orchestrator() as orch, serving() as worker:
        body = orch.stream()
        assert (await worker.call("POST", "/stream/start", body))[0] == 200
        async with listening(body["publish_url"]) as out, listening(body["events_url"]) as events:
            async with camera(body["subscribe_url"]):
                await until(lambda: len(out.segments) >= 2)
            shown = play(out.segments[1])
            print(shown, events.documents[:3])
            assert shown.luma and min(shown.luma) > 150
        orch.end()
        await worker.until_idle()
