"""The engine's job on a machine whose allocator has no room for more than so many pictures at once.

The error is the allocator's own: it is asked for more than any machine has.
"""

import sys

from apps.training.engine import job


def main():
    most = int(sys.argv.pop(1))
    job.prepare_environment()
    import torch

    forward = torch.nn.Conv2d.forward

    def allocate(self, pictures):
        if pictures.shape[0] > most and self.training:
            torch.empty(1 << 52)
        return forward(self, pictures)

    torch.nn.Conv2d.forward = allocate
    return job.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
