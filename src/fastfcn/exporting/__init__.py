"""Models as files of other runtimes: written, run there, compared with torch, and read again."""
