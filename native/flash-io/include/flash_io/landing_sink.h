#pragma once

/* How a stream of slices reaches a consumer in another binary: plain C, and nothing else of this library.
 * One stream reads consecutive slices of a file and tells of each as its bytes are there; the sink works on
 * them, and gives their memory back for slices further on. */

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Also the version: change it with the layout. */
#define FLASH_IO_SINK_MAGIC 0x4b4e49534f49464cULL

/* The reader's side; valid from `begin` until the sink calls `close`. */
typedef struct FlashIoStream {
  void* context;
  /* Slices [0, count) are not needed any more: their memory may be read into. Any thread; counts never
   * fall, and a lower one changes nothing. May take a lock and make a system call to start reads. */
  void (*release)(void* context, uint32_t count);
  /* The sink will not call again and no call of it is still running; exactly once per `begin`, any thread,
   * before or after `end`. Slices that could only be read after a further release are never read then. */
  void (*close)(void* context);
} FlashIoStream;

/* The consumer's side; outlives every stream into it (JavaScript keeps it referenced). The stream's own
 * functions may be called from within these. */
typedef struct FlashIoSink {
  uint64_t magic; /* FLASH_IO_SINK_MAGIC */
  void* context;
  /* Before anything lands, on the submitting thread. `stream` stays where it is until `close`. */
  void (*begin)(void* context, const FlashIoStream* stream, uint32_t slices);
  /* All bytes of the slice are there. Any order, any thread of the reader, several at once; short. */
  void (*landed)(void* context, uint32_t slice);
  /* The last call, after every `landed` has returned: nothing is under way; 0 after an error or cancel.
   * Without slices, or when cancelled while nothing is under way, from within the call that ended it. */
  void (*end)(void* context, int all_landed);
} FlashIoSink;

#ifdef __cplusplus
}
#endif
