"""The clients of the vendors. They convert requests for bars to calls, and answers to bars."""
