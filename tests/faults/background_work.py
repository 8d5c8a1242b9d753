"""Work that goes on while something else happens to the operator."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager


@asynccontextmanager
async def beside(work: Awaitable[None]) -> AsyncIterator["asyncio.Future[None]"]:
    """The work goes on within the block, which awaits it; it is cancelled when the block fails, and its failure told then."""
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
